-- `http-request lua.vestibule`: asks vestibule whether a request may pass, and sets who it comes from.

local QUESTION = "http://127.0.0.1:8080/_vestibule/auth?redirect=1"
-- Every header that the application believes: what a client sent under these names is replaced, also by nothing.
local BELIEVED = { "x-auth-user", "x-auth-email", "x-auth-groups" }
-- What belongs to the request's own connection and body, and the words that vestibule believes of HAProxy alone.
local OURS = {
    ["host"] = true, ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["expect"] = true,
    ["upgrade"] = true, ["te"] = true, ["trailer"] = true, ["keep-alive"] = true, ["proxy-connection"] = true,
    ["x-forwarded-method"] = true, ["x-forwarded-proto"] = true, ["x-forwarded-host"] = true,
    ["x-forwarded-uri"] = true, ["x-forwarded-for"] = true,
}

local function values(list)
    local found = {}
    for at = 0, #list do found[#found + 1] = list[at] end
    return found
end

local function answer(txn, status, fields, body)
    local reply = txn:reply { status = status }
    for _, name in ipairs { "location", "www-authenticate", "content-type", "cache-control", "retry-after" } do
        if fields and fields[name] then reply:add_header(name, fields[name][0]) end
    end
    reply:set_body(body or "")
    txn:done(reply)
end

core.register_action("vestibule", { "http-req" }, function(txn)
    local fields = {}
    for name, list in pairs(txn.http:req_get_headers()) do
        if not OURS[name] then fields[name] = values(list) end
    end
    fields["x-forwarded-method"] = { txn.sf:method() }
    fields["x-forwarded-proto"] = { txn.f:ssl_fc() and txn.f:ssl_fc() ~= 0 and "https" or "http" }
    fields["x-forwarded-host"] = { txn.sf:req_hdr("host") }
    fields["x-forwarded-uri"] = { txn.sf:pathq() }
    fields["x-forwarded-for"] = { txn.sf:src() }

    local said = core.httpclient():get { url = QUESTION, headers = fields, timeout = 5000 }
    if not said or said.status == nil or said.status == 0 or (said.status ~= 200 and said.status < 300) then
        return answer(txn, 503)
    end
    if said.status ~= 200 then
        return answer(txn, said.status, said.headers, said.body)
    end
    for _, name in ipairs(BELIEVED) do
        txn.http:req_set_header(name, said.headers[name] and said.headers[name][0] or "")
    end
end, 0)

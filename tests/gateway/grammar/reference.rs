//! A second reader of HTTP/1 requests, written from RFC 9112 alone and for nothing but strictness: slow, plain, and without a
//! line in common with the gateway's.

/// One request as it must be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    /// HTTP/1.0.
    pub(crate) is_10: bool,
    /// Names in lower case, by name; values without edge space, those of one name in the order they came.
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// What comes after the last whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing, or nothing that counts: the client wanted to close.
    Clean,
    /// A request that is not all there.
    Incomplete,
    /// A head that breaks the rules.
    Refused,
    /// A body that does, behind a head that does not.
    Broken,
}

/// Every request in these bytes, and what ends them.
pub(crate) fn read(mut bytes: &[u8]) -> (Vec<Request>, End) {
    let mut requests = Vec::new();
    loop {
        // RFC 9112 §2.2 speaks of at least one.
        for _ in 0..2 {
            bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        }
        if bytes.is_empty() {
            return (requests, End::Clean);
        }
        let (head, rest) = match head(bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return (requests, End::Incomplete),
            // Whoever waits for a head's end cannot know yet what is wrong with it.
            Err(()) if !has_end(bytes) => return (requests, End::Incomplete),
            Err(()) => return (requests, End::Refused),
        };
        let mut request = head.request;
        let body = match head.framing {
            Framing::None => Ok(Some((Vec::new(), rest))),
            Framing::Length(length) if rest.len() < length => Ok(None),
            Framing::Length(length) => Ok(Some((rest[..length].to_vec(), &rest[length..]))),
            Framing::Chunked => chunks(rest),
        };
        match body {
            Ok(Some((body, rest))) => {
                request.body = body;
                bytes = rest;
            }
            Ok(None) => return (requests, End::Incomplete),
            Err(()) => return (requests, End::Broken),
        }
        requests.push(request);
        if head.closes {
            return (requests, End::Clean);
        }
    }
}

/// A blank line, of whatever line ends.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|end| end == b"\n\n") || bytes.windows(3).any(|end| end == b"\n\r\n")
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

struct Head {
    request: Request,
    framing: Framing,
    closes: bool,
}

/// One line that ends with CRLF and holds no other control byte but tabs. `None`: its end is not there.
type Line<'a> = Result<Option<(&'a [u8], &'a [u8])>, ()>;

fn line(bytes: &[u8]) -> Line<'_> {
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => {
                return match bytes.get(at + 1) {
                    Some(b'\n') => Ok(Some((&bytes[..at], &bytes[at + 2..]))),
                    Some(_) => Err(()),
                    None => Ok(None),
                };
            }
            b'\t' | 0x20..=0x7E | 0x80..=0xFF => {}
            _ => return Err(()),
        }
    }
    Ok(None)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9112 §5: `name ":" OWS value OWS`.
fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ()> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(())?;
    let name = &line[..colon];
    if !is_token(name) {
        return Err(());
    }
    Ok((name.to_ascii_lowercase(), trimmed(&line[colon + 1..]).to_vec()))
}

fn head(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, ()> {
    let Some((first, mut rest)) = line(bytes)? else { return Ok(None) };
    let parts: Vec<&[u8]> = first.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else { return Err(()) };
    let is_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(()),
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(());
    }
    let mut fields = Vec::new();
    loop {
        let Some((found, behind)) = line(rest)? else { return Ok(None) };
        rest = behind;
        if found.is_empty() {
            break;
        }
        fields.push(field(found)?);
    }
    let all = |name: &[u8]| -> Vec<&[u8]> {
        fields.iter().filter(|(held, _)| held == name).map(|(_, value)| value.as_slice()).collect()
    };
    let hosts = all(b"host");
    if hosts.len() > 1 || (is_11 && hosts.is_empty()) {
        return Err(());
    }
    let framing = match (&all(b"content-length")[..], &all(b"transfer-encoding")[..]) {
        ([], []) => Framing::None,
        ([length], []) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length = String::from_utf8_lossy(length).into_owned();
            let length: u64 = if is_number { length.parse().map_err(drop)? } else { return Err(()) };
            Framing::Length(usize::try_from(length).map_err(drop)?)
        }
        ([], [coding]) if is_11 && coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        _ => return Err(()),
    };
    let connection: Vec<Vec<u8>> = all(b"connection")
        .into_iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|item| trimmed(item).to_ascii_lowercase())
        .collect();
    let says = |word: &[u8]| connection.iter().any(|item| item == word);
    let closes = says(b"close") || (!is_11 && !says(b"keep-alive"));
    fields.sort_by(|(one, _), (two, _)| one.cmp(two));
    let request =
        Request { method: method.to_vec(), target: target.to_vec(), is_10: !is_11, fields, body: Vec::new() };
    Ok(Some((Head { request, framing, closes }, rest)))
}

/// A body without its framing, and what is behind it. `None`: its end is not there.
type Body<'a> = Result<Option<(Vec<u8>, &'a [u8])>, ()>;

/// RFC 9112 §7.1.
fn chunks(mut bytes: &[u8]) -> Body<'_> {
    let mut body = Vec::new();
    loop {
        let Some((found, rest)) = line(bytes)? else { return Ok(None) };
        let digits = found.split(|&byte| byte == b';').next().unwrap_or_default();
        if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(());
        }
        let size = u64::from_str_radix(&String::from_utf8_lossy(digits), 16).map_err(drop)?;
        bytes = rest;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(drop)?;
        match bytes.get(..size).zip(bytes.get(size..)) {
            Some((data, behind)) => match behind {
                [b'\r', b'\n', rest @ ..] => {
                    body.extend_from_slice(data);
                    bytes = rest;
                }
                [] | [b'\r'] => return Ok(None),
                _ => return Err(()),
            },
            None => return Ok(None),
        }
    }
    loop {
        let Some((found, rest)) = line(bytes)? else { return Ok(None) };
        bytes = rest;
        if found.is_empty() {
            return Ok(Some((body, bytes)));
        }
        field(found)?;
    }
}

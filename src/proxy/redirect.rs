//! The listener that sends everybody to https, and answers an authority's challenges on the way.

use crate::domain::decision::Rejection;
use crate::proxy::context::Context;
use crate::proxy::read;
use crate::proxy::respond::{self, Answer};
use crate::proxy::snapshot::Snapshot;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where authorities look (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";
/// The same, below the webroot: clients make these folders in there.
const FOLDERS: [&str; 2] = [".well-known", "acme-challenge"];
/// A token is 128 bits or more in base64url, which nobody makes longer than this.
const TOKEN_BYTES_MAX: usize = 128;
/// A key authorization is a token, a dot and a thumbprint.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Answers any request on such a listener; its head is canonical.
///
/// 308 (RFC 9110 §15.4.9) whatever the method, so that a form that was sent is sent again and not asked for. Challenges are
/// answered for any host, for a certificate is needed before its route is.
pub(crate) async fn answer(head: &RequestHeader, ctx: &Context) -> Result<Answer, Rejection> {
    let target = std::str::from_utf8(head.raw_path()).map_err(|_| Rejection::BadRequest("target"))?;
    let webroot = ctx.front().redirect.as_ref().and_then(|redirect| redirect.acme_webroot.as_ref());
    if let (Some(webroot), Some(token)) = (webroot, target.strip_prefix(CHALLENGES))
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        return challenge(webroot.clone(), token).await;
    }
    let host = read::host_of(head);
    let host = seen_host(&ctx.snapshot, host.name()).ok_or(Rejection::NoRoute)?;
    let location = format!("{}{target}", respond::origin_url(host, ctx.outside()));
    Ok(Answer::redirect(StatusCode::PERMANENT_REDIRECT, &location))
}

/// Where a request for this host is sent: to the same where a route names it, to that of `external_url` where routes are for any
/// host; never to one that the request alone knows.
fn seen_host<'a>(snapshot: &'a Snapshot, host: &'a str) -> Option<&'a str> {
    let routes = snapshot.routes.routes_of_host(host);
    if routes.iter().any(|&route| snapshot.route[route].names_hosts) {
        return Some(host);
    }
    let (external, _) = snapshot.external_url.as_ref()?;
    (!routes.is_empty()).then_some(external)
}

async fn challenge(webroot: PathBuf, token: &str) -> Result<Answer, Rejection> {
    if !is_token(token) {
        return Err(Rejection::NoRoute);
    }
    let token = token.to_owned();
    // Off the request threads: a folder may lie on a slow disk.
    let read = tokio::task::spawn_blocking(move || read_answer(&webroot, &token)).await;
    match read {
        Ok(Ok(bytes)) => Ok(Answer::new(StatusCode::OK)
            .with("Content-Type", HeaderValue::from_static("application/octet-stream"))
            .with_body(Bytes::from(bytes))),
        Ok(Err(_)) => Err(Rejection::NoRoute),
        Err(_) => Err(Rejection::Internal("acme_challenge")),
    }
}

/// base64url without padding (RFC 8555 §8.3): no dot, no slash, so that a token names a file of one folder.
fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(plain)
}

/// A small regular file that lies where it says: no link is followed below the webroot, whoever may write in there.
fn read_answer(webroot: &Path, token: &str) -> io::Result<Vec<u8>> {
    let folder = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut place = openat(CWD, webroot, folder, Mode::empty())?;
    for name in FOLDERS {
        place = openat(&place, name, folder | OFlags::NOFOLLOW, Mode::empty())?;
    }
    // NONBLOCK: opening a pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(&place, token, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut bytes = Vec::new();
    File::from(file).take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ANSWER_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_token_is_base64url_and_nothing_else() {
        for (text, expected) in [
            ("LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", true),
            ("a-_9", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a%2fb", false),
            ("a?b", false),
            ("a.txt", false),
            (&"a".repeat(129), false),
        ] {
            assert_eq!(is_token(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_small_file_that_lies_in_the_folder_is_read() {
        let root = std::env::temp_dir().join(format!("vestibule-acme-{}", std::process::id()));
        let folder = root.join("web/.well-known/acme-challenge");
        std::fs::create_dir_all(folder.join("folder")).expect("the temporary folder takes folders");
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).expect("a file can be written");
        write(folder.join("token"), "token.thumb");
        write(folder.join("long"), &"a".repeat(4097));
        write(root.join("secret"), "a secret");
        symlink(root.join("secret"), folder.join("link")).expect("a link can be made");
        let expected = [
            ("token", Some("token.thumb")),
            ("long", None),
            ("link", None),
            ("folder", None),
            ("none", None),
        ];
        for (token, expected) in expected {
            let read = read_answer(&root.join("web"), token).ok();
            assert_eq!(read.as_deref(), expected.map(str::as_bytes), "{token}");
        }
        let other = root.join("other");
        std::fs::create_dir_all(&other).expect("the temporary folder takes folders");
        symlink(root.join("web/.well-known"), other.join(".well-known")).expect("a link can be made");
        assert!(read_answer(&other, "token").is_err(), "a folder that is a link");
        std::fs::remove_dir_all(&root).expect("it is there");
    }
}

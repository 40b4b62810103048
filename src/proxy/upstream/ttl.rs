//! How long the addresses of a name count: what a DNS server says of them (RFC 1035).
//!
//! Addresses come from the system's resolver, which keeps their time to live to itself; the servers that it asks are asked here
//! for that time alone. So an answer, a forged one too, moves the next look-up within its bounds and nothing else.

use resolv_conf::{Config, ScopedIp};
use simple_dns::rdata::RData;
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, header_buffer,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

/// Servers are asked on this port.
const PORT: u16 = 53;
/// Servers that are asked, one after the other.
const SERVERS_MAX: usize = 2;
/// Suffixes that are tried.
const SUFFIXES_MAX: usize = 6;
/// The longest wait for a server's answers to one spelling of a name.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The longest wait for all of it.
const ALL_MAX: Duration = Duration::from_secs(6);
/// Names that are asked about at once, each with a socket.
static PLACES: Semaphore = Semaphore::const_new(8);
/// Datagrams that are read for one spelling, the unwanted ones included.
const DATAGRAMS_MAX: usize = 32;
/// Bytes of a datagram. Servers send 512 to those who name no other size (RFC 1035 section 4.2.1).
const DATAGRAM_MAX: usize = 1232;
/// The shortest entry of a message: a question about the root.
const ENTRY_MIN: usize = 5;

/// What the system's resolver goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    suffixes: Vec<String>,
    /// A name with as many dots is tried as it is before suffixes are.
    dots: usize,
    wait: Duration,
}

/// What a server says to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// The least of the times of an address and of the names that lead to it; seconds.
    Lasts(u32),
    /// There is no such name, or it has no such address.
    None,
    /// The server cannot tell.
    Failed,
}

impl Servers {
    /// Reads `resolv.conf`; lines that say nothing are passed over.
    pub(super) fn read(text: &[u8]) -> Self {
        let (mut config, _) = Config::parse_with_errors(text);
        config.glibc_normalize();
        let addresses = config.get_nameservers_or_local().into_iter().filter_map(|server| match server {
            ScopedIp::V4(address) => Some(SocketAddr::from((address, PORT))),
            ScopedIp::V6(address, None) => Some(SocketAddr::from((address, PORT))),
            // An address of one link: its number would have to be asked of the system.
            ScopedIp::V6(_, Some(_)) => None,
        });
        let suffixes = config.get_last_search_or_domain().map(|suffix| suffix.trim_matches('.').to_owned());
        Self {
            addresses: addresses.take(SERVERS_MAX).collect(),
            suffixes: suffixes.filter(|suffix| !suffix.is_empty()).take(SUFFIXES_MAX).collect(),
            dots: config.ndots as usize,
            wait: Duration::from_secs(u64::from(config.timeout.max(1))).min(WAIT_MAX),
        }
    }

    /// How long the addresses of a name count from now on; nothing if no server says so.
    pub(super) async fn time_to_live(&self, name: &str) -> Option<Duration> {
        let asking = async {
            let _place = PLACES.acquire().await.ok()?;
            for server in &self.addresses {
                // Only where a server does not answer is another one asked.
                if let Ok(said) = self.ask(*server, name).await {
                    return said;
                }
            }
            None
        };
        tokio::time::timeout(ALL_MAX, asking).await.ok().flatten()
    }

    async fn ask(&self, server: SocketAddr, name: &str) -> io::Result<Option<Duration>> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A port that nobody can foretell; connected, so that the system drops what others send.
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        for spelling in self.spellings(name) {
            if let Some(seconds) = ask_about(&socket, &spelling, self.wait).await? {
                return Ok(Some(Duration::from_secs(seconds.into())));
            }
        }
        Ok(None)
    }

    /// The names that a name may mean, in the order in which the system tries them.
    fn spellings(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let mut spellings: Vec<String> =
            self.suffixes.iter().map(|suffix| format!("{name}.{suffix}")).collect();
        let is_first = name.matches('.').count() >= self.dots;
        spellings.insert(if is_first { 0 } else { spellings.len() }, name.to_owned());
        spellings
    }
}

/// Asks for addresses of both kinds at once; nothing if there are none. The error is a server's that does not answer.
async fn ask_about(socket: &UdpSocket, name: &str, wait: Duration) -> io::Result<Option<u32>> {
    let Ok(name) = Name::new(name) else { return Ok(None) };
    let mut asked = Vec::new();
    for kind in [TYPE::A, TYPE::AAAA] {
        let id = getrandom::u32().map_err(io::Error::other)? as u16;
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(name.clone(), kind.into(), CLASS::IN.into(), false));
        socket.send(&packet.build_bytes_vec().map_err(io::Error::other)?).await?;
        asked.push((id, kind));
    }
    let mut said = Vec::new();
    let reading = async {
        let mut datagram = [0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS_MAX {
            let length = socket.recv(&mut datagram).await?;
            if let Some((at, answer)) = read_answer(&datagram[..length], &name, &asked) {
                asked.swap_remove(at);
                said.push(answer);
            }
            if asked.is_empty() {
                break;
            }
        }
        io::Result::Ok(())
    };
    // What was heard until time is up counts.
    let _ = tokio::time::timeout(wait, reading).await;
    let shortest =
        said.iter().filter_map(|said| if let Said::Lasts(seconds) = said { Some(*seconds) } else { None });
    match shortest.min() {
        None if said.len() < 2 || said.contains(&Said::Failed) => Err(io::ErrorKind::TimedOut.into()),
        shortest => Ok(shortest),
    }
}

/// Which of the questions a datagram answers, and how; nothing if it answers none.
fn read_answer(datagram: &[u8], name: &Name<'_>, asked: &[(u16, TYPE)]) -> Option<(usize, Said)> {
    // Memory is set aside for as many entries as a message says it has: no more than can be in it.
    let counts = [
        header_buffer::questions(datagram),
        header_buffer::answers(datagram),
        header_buffer::name_servers(datagram),
        header_buffer::additional_records(datagram),
    ];
    let entries = counts.into_iter().flatten().map(usize::from).sum::<usize>();
    if entries * ENTRY_MIN > datagram.len() {
        return None;
    }
    let packet = Packet::parse(datagram).ok()?;
    let [question] = packet.questions.as_slice() else { return None };
    let is_answer = packet.has_flags(PacketFlag::RESPONSE) && packet.opcode() == OPCODE::StandardQuery;
    if !is_answer || question.qname != *name || question.qclass != QCLASS::CLASS(CLASS::IN) {
        return None;
    }
    let answers = |(id, kind): &(u16, TYPE)| packet.id() == *id && question.qtype == QTYPE::TYPE(*kind);
    let at = asked.iter().position(answers)?;
    // One that was cut short tells as much as is in it.
    let leading = packet.answers.iter().filter(|record| {
        record.class == CLASS::IN && matches!(record.rdata, RData::A(_) | RData::AAAA(_) | RData::CNAME(_))
    });
    // A time with the highest bit set is none (RFC 2181 section 8).
    let times = leading.map(|record| if record.ttl > i32::MAX as u32 { 0 } else { record.ttl });
    let said = match packet.rcode() {
        RCODE::NoError => times.min().map_or(Said::None, Said::Lasts),
        RCODE::NameError => Said::None,
        _ => Said::Failed,
    };
    Some((at, said))
}

#[cfg(test)]
mod tests;

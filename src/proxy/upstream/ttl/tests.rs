//! Against a server of our own on loopback.

use super::*;
use simple_dns::ResourceRecord;
use simple_dns::rdata::{A, AAAA, CNAME};
use std::sync::{Arc, Mutex};

/// What the server was asked: names in the order they came, each with its kind.
type Asked = Arc<Mutex<Vec<(String, QTYPE)>>>;

const WAIT: Duration = Duration::from_millis(300);

/// A server that answers each question with the datagrams that `answer` makes of it.
async fn server(answer: impl Fn(&Packet<'_>) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, Asked) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let asked = Asked::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        let mut datagram = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            let packet = Packet::parse(&datagram[..length]).expect("a question of ours");
            assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
            let question = &packet.questions[0];
            noted.lock().expect("whole").push((question.qname.to_string(), question.qtype));
            for datagram in answer(&packet) {
                let _ = socket.send_to(&datagram, from).await;
            }
        }
    });
    (address, asked)
}

fn servers(addresses: &[SocketAddr]) -> Servers {
    Servers { addresses: addresses.to_vec(), suffixes: Vec::new(), dots: 1, wait: WAIT }
}

/// An answer to a question with these records; those without a target are addresses of the kind that was asked for.
fn answer(question: &Packet<'_>, records: &[(Option<&str>, u32)]) -> Vec<u8> {
    coded(question, RCODE::NoError, records).build_bytes_vec().expect("a packet")
}

fn coded<'a>(question: &Packet<'a>, code: RCODE, records: &[(Option<&'a str>, u32)]) -> Packet<'a> {
    let mut packet = question.clone().into_reply();
    *packet.rcode_mut() = code;
    for (target, seconds) in records {
        let data = match target {
            Some(target) => RData::CNAME(CNAME(Name::new(target).expect("a name"))),
            None if is_old(question) => RData::A(A { address: 0x7f00_0001 }),
            None => RData::AAAA(AAAA { address: 1 }),
        };
        let name = question.questions[0].qname.clone();
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, *seconds, data));
    }
    packet
}

fn is_old(question: &Packet<'_>) -> bool {
    question.questions[0].qtype == QTYPE::TYPE(TYPE::A)
}

#[expect(clippy::unnecessary_wraps, reason = "what a look-up tells")]
fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

async fn told(answer: impl Fn(&Packet<'_>) -> Vec<Vec<u8>> + Send + 'static) -> Option<Duration> {
    let (address, _) = server(answer).await;
    servers(&[address]).time_to_live("app.example").await
}

#[tokio::test]
async fn the_shortest_time_of_the_chain_counts() {
    let chain = [(Some("one.example"), 300), (Some("two.example"), 20), (None, 60), (None, 90)];
    assert_eq!(told(move |question| vec![answer(question, &chain)]).await, seconds(20));
    let by_kind =
        |question: &Packet<'_>| vec![answer(question, &[(None, if is_old(question) { 9 } else { 7 })])];
    assert_eq!(told(by_kind).await, seconds(7));
    let one_kind = |question: &Packet<'_>| {
        vec![if is_old(question) { answer(question, &[(None, 9)]) } else { answer(question, &[]) }]
    };
    assert_eq!(told(one_kind).await, seconds(9));
    assert_eq!(told(|question| vec![answer(question, &[(None, 0)])]).await, seconds(0));
    assert_eq!(told(|question| vec![answer(question, &[(None, u32::MAX)])]).await, seconds(0), "RFC 2181");
}

#[tokio::test]
async fn both_kinds_are_asked_for() {
    let (address, asked) = server(|question| vec![answer(question, &[(None, 5)])]).await;
    servers(&[address]).time_to_live("App.Example").await;
    let mut asked = asked.lock().expect("whole").clone();
    asked.sort_by_key(|(_, kind)| u16::from(*kind));
    let name = || "App.Example".to_owned();
    assert_eq!(asked, [(name(), TYPE::A.into()), (name(), TYPE::AAAA.into())]);
}

#[tokio::test]
async fn what_answers_no_question_of_ours_is_passed_over() {
    let forged = |question: &Packet<'_>| {
        let mut other_id = coded(question, RCODE::NoError, &[(None, 1)]);
        other_id.set_id(question.id() ^ 1);
        let mut other_name = coded(question, RCODE::NoError, &[(None, 1)]);
        other_name.questions[0].qname = Name::new("other.example").expect("a name");
        let mut other_kind = coded(question, RCODE::NoError, &[(None, 1)]);
        other_kind.questions[0].qtype = TYPE::MX.into();
        let mut no_question = coded(question, RCODE::NoError, &[(None, 1)]);
        no_question.questions.clear();
        let mut no_answer = coded(question, RCODE::NoError, &[(None, 1)]);
        no_answer.remove_flags(PacketFlag::RESPONSE);
        [other_id, other_name, other_kind, no_question, no_answer]
            .map(|packet| packet.build_bytes_vec().expect("a packet"))
            .to_vec()
    };
    assert_eq!(told(forged).await, None);
    let then_right = move |question: &Packet<'_>| {
        let mut all = forged(question);
        all.push(answer(question, &[(None, 40)]));
        all
    };
    assert_eq!(told(then_right).await, seconds(40));
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let garbage = |question: &Packet<'_>| {
        let whole = answer(question, &[(Some("one.example"), 3), (None, 3)]);
        let mut many = whole.clone();
        many[6..8].copy_from_slice(&[0xff, 0xff]);
        let mut looped = whole.clone();
        // A name that points to itself.
        looped.truncate(12);
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        vec![Vec::new(), vec![0; 11], vec![0xff; 600], whole[..whole.len() - 1].to_vec(), many, looped]
    };
    assert_eq!(told(garbage).await, None);
    let then_right = move |question: &Packet<'_>| {
        let mut all = garbage(question);
        all.push(answer(question, &[(None, 12)]));
        all
    };
    assert_eq!(told(then_right).await, seconds(12));
}

/// Every prefix of an answer, and the answer with each of its bytes altered, is read without harm.
#[test]
fn no_datagram_does_harm() {
    let name = Name::new("app.example").expect("a name");
    let mut question = Packet::new_query(7);
    question.questions.push(Question::new(name.clone(), TYPE::A.into(), CLASS::IN.into(), false));
    let whole = answer(&question, &[(Some("one.example"), 30), (None, 60)]);
    let read = |datagram: &[u8]| read_answer(datagram, &name, &[(7, TYPE::A)]);
    assert_eq!(read(&whole), Some((0, Said::Lasts(30))));
    for length in 0..whole.len() {
        assert_eq!(read(&whole[..length]), None, "{length}");
    }
    for at in 0..whole.len() {
        for value in 0..=u8::MAX {
            let mut altered = whole.clone();
            altered[at] = value;
            let _ = read(&altered);
        }
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_short_tells_what_is_in_it() {
    let short = |question: &Packet<'_>| {
        let mut packet = coded(question, RCODE::NoError, &[(Some("one.example"), 15)]);
        packet.set_flags(PacketFlag::TRUNCATION);
        vec![packet.build_bytes_vec().expect("a packet")]
    };
    assert_eq!(told(short).await, seconds(15));
}

#[tokio::test]
async fn a_server_that_knows_no_such_name_is_believed() {
    let unknown = |question: &Packet<'_>| {
        vec![coded(question, RCODE::NameError, &[]).build_bytes_vec().expect("a packet")]
    };
    let (first, _) = server(unknown).await;
    let (second, asked) = server(|question| vec![answer(question, &[(None, 5)])]).await;
    assert_eq!(servers(&[first, second]).time_to_live("app.example").await, None);
    assert!(asked.lock().expect("whole").is_empty());
}

#[tokio::test]
async fn another_server_is_asked_where_one_is_silent_or_fails() {
    let failing = |question: &Packet<'_>| {
        vec![coded(question, RCODE::ServerFailure, &[]).build_bytes_vec().expect("a packet")]
    };
    let (silent, _) = server(|_| Vec::new()).await;
    let (failing, _) = server(failing).await;
    let closed = {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        socket.local_addr().expect("it is bound")
    };
    let (sound, _) = server(|question| vec![answer(question, &[(None, 5)])]).await;
    for first in [silent, failing, closed] {
        assert_eq!(servers(&[first, sound]).time_to_live("app.example").await, seconds(5), "{first}");
        assert_eq!(servers(&[first]).time_to_live("app.example").await, None, "{first}");
    }
}

/// An answer that comes after its time is nobody's: the next question has another socket.
#[tokio::test]
async fn a_late_answer_is_not_waited_for() {
    let late = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = late.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut datagram = [0; 512];
        while let Ok((length, from)) = late.recv_from(&mut datagram).await {
            tokio::time::sleep(WAIT * 2).await;
            let packet = Packet::parse(&datagram[..length]).expect("a question of ours");
            let _ = late.send_to(&answer(&packet, &[(None, 3)]), from).await;
        }
    });
    let servers = servers(&[address]);
    assert_eq!(servers.time_to_live("app.example").await, None);
    assert_eq!(servers.time_to_live("app.example").await, None);
}

#[tokio::test]
async fn suffixes_are_tried_as_the_system_does() {
    let (address, asked) = server(|question| {
        let is_known = question.questions[0].qname == Name::new("app.two.example").expect("a name");
        let code = if is_known { RCODE::NoError } else { RCODE::NameError };
        let records: &[_] = if is_known { &[(None, 8)] } else { &[] };
        vec![coded(question, code, records).build_bytes_vec().expect("a packet")]
    })
    .await;
    let suffixes = ["one.example", "two.example", "three.example"].map(str::to_owned).to_vec();
    let servers = Servers { suffixes, ..servers(&[address]) };
    assert_eq!(servers.time_to_live("app").await, seconds(8));
    let names: Vec<String> =
        asked.lock().expect("whole").iter().step_by(2).map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["app.one.example", "app.two.example"]);
}

#[test]
fn dots_say_whether_a_name_is_tried_as_it_is_first() {
    let of = |dots, name: &str| {
        let suffixes = vec!["one".to_owned(), "two".to_owned()];
        Servers { suffixes, dots, ..servers(&[]) }.spellings(name)
    };
    assert_eq!(of(1, "app"), ["app.one", "app.two", "app"]);
    assert_eq!(of(1, "app.example"), ["app.example", "app.example.one", "app.example.two"]);
    assert_eq!(of(5, "app.example"), ["app.example.one", "app.example.two", "app.example"]);
    assert_eq!(of(5, "app.example."), ["app.example"]);
    assert_eq!(of(0, "app"), ["app", "app.one", "app.two"]);
}

#[test]
fn the_system_s_file_is_read_and_bounded() {
    let text = b"# ours\nnameserver 10.0.0.1\nnonsense here\nnameserver fe80::1%eth0\nnameserver fd00::1\n\
        nameserver 10.0.0.3\nsearch one.example two.example.\noptions ndots:2 timeout:1\n";
    let expected = Servers {
        addresses: vec!["10.0.0.1:53".parse().expect("one"), "[fd00::1]:53".parse().expect("one")],
        suffixes: vec!["one.example".to_owned(), "two.example".to_owned()],
        dots: 2,
        wait: Duration::from_secs(1),
    };
    assert_eq!(Servers::read(text), expected);
    let bare = Servers::read(b"nameserver 10.0.0.1\noptions timeout:30\n");
    assert_eq!((bare.suffixes.len(), bare.dots, bare.wait), (0, 1, WAIT_MAX));
    assert_eq!(Servers::read(b"\xff\xfe\n").addresses[0], "127.0.0.1:53".parse().expect("one"));
    let many = format!(
        "search {}\n",
        (0..50).map(|number| format!("s{number}.example")).collect::<Vec<_>>().join(" ")
    );
    assert_eq!(Servers::read(many.as_bytes()).suffixes.len(), SUFFIXES_MAX);
}

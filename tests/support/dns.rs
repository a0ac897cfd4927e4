//! Zones with keys, registries that ask for them, and a man in the middle.

use super::knot::{Knot, Signed, Zone};
use super::registry::ip;
use curve_tun::net::Timeout;
use curve_tun::registry::{Candidate, DnsOptions, DnsRegistry, Registry, ServerKeys};
use curve_tun::{Error, PublicKey};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG, SigInput};
use hickory_resolver::proto::op::{Edns, Message, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longer than any machine is busy: either the expected event happens by then, or the test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The largest answer by UDP.
const UDP_MAX: usize = 1232;
pub const SOON: Timeout = Some(PATIENCE);

/// The labels of an address under its zone, as documented.
pub fn labels(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr")
        }
        IpAddr::V6(v6) => {
            let digits = format!("{:032x}", v6.to_bits());
            digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6"
        }
    }
}

pub fn record(name: &str, key: PublicKey) -> String {
    format!("{name} TXT \"v=ct1; k={key}\"\n")
}

/// Starts a server of the signed zone `test`.
pub fn signed(text: String) -> Knot {
    serve(text, Signed::Nsec)
}

pub fn serve(text: String, signed: Signed) -> Knot {
    Knot::start(&[Zone { name: "test", text, signed }])
}

/// Starts a server of the zone `test` and of `child`, which `test` delegates with the digests of
/// its keys. Both may hold wildcards.
pub fn family(child: &str, parent: (String, Signed), of_child: (String, Signed)) -> Knot {
    let name = child.strip_suffix(".test").unwrap();
    let text = parent.0 + &format!("{name} NS ns\n");
    let knot = Knot::start(&[
        Zone { name: "test", text: text.clone(), signed: parent.1 },
        Zone { name: child, text: of_child.0, signed: of_child.1 },
    ]);
    knot.change("test", &(text + &knot.tool("keymgr", &[child, "ds"])), 2);
    knot
}

/// Options for a registry that asks `knot` and trusts the keys of its zone `test`.
pub fn options(knot: &Knot) -> DnsOptions {
    DnsOptions::default()
        .servers(vec![knot.address()])
        .trust_anchors(Some(knot.trust_anchors("test")))
        .timeout(Duration::from_millis(PATIENCE.as_millis().try_into().unwrap()))
}

pub fn open(knot: &Knot) -> DnsRegistry {
    DnsRegistry::open("test", &options(knot)).unwrap()
}

/// A registry of `zone` that asks `server` and trusts the keys of `knot`'s zone `test`. It caches
/// no answers.
pub fn through(server: SocketAddr, knot: &Knot, zone: &str) -> DnsRegistry {
    let options = options(knot).servers(vec![server]).cache_max(0);
    DnsRegistry::open(zone, &options).unwrap()
}

pub fn admits(registry: &DnsRegistry, address: &str, key: PublicKey) -> Result<bool, Error> {
    registry.verify(&Candidate::new(ip(address), key))
}

pub fn server_keys(registry: &DnsRegistry, host: &str, port: u16) -> Result<Vec<PublicKey>, Error> {
    let mut keys = registry.server_keys(&format!("[{host}]:{port}").parse().unwrap(), SOON)?;
    keys.sort_unstable();
    Ok(keys)
}

/// Asks a server, with signatures.
pub fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.edns.get_or_insert_with(Edns::new).enable_dnssec();
    pass(server, &message.to_vec().unwrap())
}

/// Forwards a question by TCP, so that no answer is truncated.
fn pass(server: SocketAddr, question: &[u8]) -> Message {
    let mut stream = TcpStream::connect(server).unwrap();
    write(&mut stream, question).unwrap();
    Message::from_vec(&read(&mut stream).unwrap()).unwrap()
}

fn write(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes())?;
    stream.write_all(message)
}

fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut size = [0; 2];
    stream.read_exact(&mut size)?;
    let mut message = vec![0; u16::from_be_bytes(size).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A man in the middle in front of `server`, until the process ends: `change` may change each
/// answer; if it returns false, no answer is sent.
pub fn middle(server: SocketAddr, change: impl FnMut(&mut Message) -> bool + Send + 'static) -> SocketAddr {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let change = Arc::new(Mutex::new(change));
    let changed = move |question: &[u8]| {
        let mut answer = pass(server, question);
        change.lock().unwrap()(&mut answer).then_some(answer)
    };
    let of_udp = changed.clone();
    thread::spawn(move || {
        let mut question = [0; 4096];
        loop {
            let (size, from) = udp.recv_from(&mut question).unwrap();
            let Some(mut answer) = of_udp(&question[..size]) else { continue };
            if answer.to_vec().unwrap().len() > UDP_MAX {
                answer.metadata.truncation = true;
                answer.answers.clear();
                answer.authorities.clear();
            }
            udp.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let (mut stream, changed) = (stream.unwrap(), changed.clone());
            thread::spawn(move || {
                // The asking end may leave.
                while let Ok(question) = read(&mut stream) {
                    let answer = changed(&question);
                    if answer.is_some_and(|answer| write(&mut stream, &answer.to_vec().unwrap()).is_err()) {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// Whether a message answers a question for this name and type.
pub fn is_for(message: &Message, name: &str, kind: RecordType) -> bool {
    let query = message.queries.first().unwrap();
    query.query_type() == kind && *query.name() == Name::from_ascii(name).unwrap()
}

pub fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig),
        _ => None,
    }
}

/// A copy of a signature with another number of labels, which therefore proves nothing.
pub fn with_labels(record: &Record, labels: u8) -> Record {
    with(record, |input| input.num_labels = labels)
}

/// A copy of a signature that claims to cover records of another type.
pub fn covering(record: &Record, kind: RecordType) -> Record {
    with(record, |input| input.type_covered = kind)
}

/// A copy of a signature that claims to be by another key.
pub fn with_tag(record: &Record, tag: u16) -> Record {
    with(record, |input| input.key_tag = tag)
}

/// These records under another name, like those of a wildcard.
pub fn renamed(records: &[Record], name: &str) -> Vec<Record> {
    let name = Name::from_ascii(name).unwrap();
    records
        .iter()
        .cloned()
        .map(|mut record| {
            record.name = name.clone();
            record
        })
        .collect()
}

fn with(record: &Record, change: impl FnOnce(&mut SigInput)) -> Record {
    let mut record = record.clone();
    let genuine = signature(&record).unwrap();
    let mut input = genuine.input().clone();
    change(&mut input);
    record.data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, genuine.sig().to_vec())));
    record
}

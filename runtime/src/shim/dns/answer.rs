//! What to do with one query. Pure: no I/O.

use super::records::Records;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use std::net::Ipv4Addr;

/// A DNS header, RFC 1035 §4.1.1.
const HEADER_BYTES: usize = 12;
/// An answer over UDP without EDNS is at most this long, RFC 1035 §4.2.1; longer ones are asked for again over TCP.
const UDP_BYTES_MAX: usize = 512;
/// Seconds an answer may be kept: addresses move when containers are replaced.
const TTL: u32 = 5;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// What to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send this back.
    Reply(Vec<u8>),
    /// Pass it on to a nameserver of the host.
    Forward,
    /// It is no query: say nothing.
    Drop,
}

/// Decides about a query, given the records of all networks of the container.
pub fn answer(query: &[u8], networks: &[&Records], transport: Transport) -> Verdict {
    if query.len() < HEADER_BYTES || query[2] & 0x80 != 0 {
        return Verdict::Drop;
    }
    let forward = networks.iter().any(|records| records.forward);
    // Only the question counts: what else a query brings (EDNS) is cut off before it is parsed.
    let mut question_only = query.to_vec();
    question_only[6..HEADER_BYTES].fill(0);
    if question_only[4..6] != [0, 1] {
        return failure(query, RCODE::FormatError);
    }
    let Ok(packet) = Packet::parse(&question_only) else {
        // Malformed, or a type this parser does not know; an upstream server judges better.
        return if forward { Verdict::Forward } else { failure(query, RCODE::FormatError) };
    };
    if packet.opcode() != OPCODE::StandardQuery {
        return failure(query, RCODE::NotImplemented);
    }
    let Some(question) = packet.questions.first() else { return failure(query, RCODE::FormatError) };
    let reply = Reply { packet: &packet, question, transport };
    match look_up(question, networks) {
        Found::Addresses(addresses) => reply.addresses(&addresses),
        Found::Name(name) => reply.name(&name),
        Found::OtherType => reply.build(RCODE::NoError, Vec::new()),
        Found::Nothing { local: false } if forward => Verdict::Forward,
        Found::Nothing { .. } => reply.build(RCODE::NameError, Vec::new()),
    }
}

/// The answer to a query that was passed on in vain.
pub fn server_failure(query: &[u8]) -> Vec<u8> {
    match failure(query, RCODE::ServerFailure) {
        Verdict::Reply(reply) => reply,
        Verdict::Forward | Verdict::Drop => Vec::new(),
    }
}

enum Found {
    Addresses(Vec<Ipv4Addr>),
    Name(String),
    /// The name is ours, but has no record of this type.
    OtherType,
    /// The name is not known here; `local` ones are not asked for elsewhere.
    Nothing {
        local: bool,
    },
}

fn look_up(question: &Question<'_>, networks: &[&Records]) -> Found {
    let labels: Vec<_> = question.qname.as_bytes().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let name = labels.join(".");
    let ours = matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    if let Some(address) = reverse(&labels) {
        let owner = networks.iter().flat_map(|records| &records.domain).find(|(_, addresses)| addresses.contains(&address));
        return match owner {
            Some((owner, _)) if ours && matches!(question.qtype, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY) => Found::Name(owner.clone()),
            Some(_) => Found::OtherType,
            None => Found::Nothing { local: false },
        };
    }
    let mut addresses: Vec<Ipv4Addr> = networks.iter().filter_map(|records| records.domain.get(&name)).flatten().copied().collect();
    addresses.sort();
    addresses.dedup();
    match question.qtype {
        // The root itself has no label at all and is a name of the world.
        _ if addresses.is_empty() => {
            let is_hosts = networks.iter().any(|records| records.forward_single_labels);
            Found::Nothing { local: labels.len() == 1 && !is_hosts }
        }
        QTYPE::TYPE(TYPE::A) | QTYPE::ANY if ours => Found::Addresses(addresses),
        _ => Found::OtherType,
    }
}

/// The address that `4.3.2.1.in-addr.arpa` asks for.
fn reverse(labels: &[String]) -> Option<Ipv4Addr> {
    let [d, c, b, a, in_addr, arpa] = labels else { return None };
    if in_addr != "in-addr" || arpa != "arpa" {
        return None;
    }
    Some(Ipv4Addr::new(a.parse().ok()?, b.parse().ok()?, c.parse().ok()?, d.parse().ok()?))
}

struct Reply<'a> {
    packet: &'a Packet<'a>,
    question: &'a Question<'a>,
    transport: Transport,
}

impl Reply<'_> {
    fn addresses(&self, addresses: &[Ipv4Addr]) -> Verdict {
        // Each query has a first answer of its own, so that clients that take the first spread.
        let first = usize::from(self.packet.id()) % addresses.len();
        let turned = addresses[first..].iter().chain(&addresses[..first]);
        let record = |address: &Ipv4Addr| {
            let rdata = RData::A(A::from(*address));
            ResourceRecord::new(self.question.qname.clone(), CLASS::IN, TTL, rdata)
        };
        self.build(RCODE::NoError, turned.map(record).collect())
    }

    fn name(&self, name: &str) -> Verdict {
        let Ok(name) = Name::new(name) else { return self.build(RCODE::ServerFailure, Vec::new()) };
        let rdata = RData::PTR(simple_dns::rdata::PTR(name));
        self.build(RCODE::NoError, vec![ResourceRecord::new(self.question.qname.clone(), CLASS::IN, TTL, rdata)])
    }

    fn build(&self, code: RCODE, answers: Vec<ResourceRecord<'_>>) -> Verdict {
        let mut reply = Packet::new_reply(self.packet.id());
        reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
        if self.packet.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        *reply.rcode_mut() = code;
        reply.questions.push(self.question.clone());
        reply.answers = answers;
        match reply.build_bytes_vec_compressed() {
            Ok(bytes) if self.transport == Transport::Udp && bytes.len() > UDP_BYTES_MAX => {
                reply.answers.clear();
                reply.set_flags(PacketFlag::TRUNCATION);
                reply.build_bytes_vec_compressed().map_or(Verdict::Drop, Verdict::Reply)
            }
            Ok(bytes) => Verdict::Reply(bytes),
            Err(_) => Verdict::Drop,
        }
    }
}

/// A header alone: for queries whose question is of no use.
fn failure(query: &[u8], code: RCODE) -> Verdict {
    let mut reply = vec![0; HEADER_BYTES];
    reply[..2].copy_from_slice(&query[..2]);
    // Opcode and recursion-desired come back as they were sent; the highest bit says that this is a response.
    reply[2] = 0x80 | (query[2] & 0x79);
    reply[3] = 0x80 | code as u8;
    Verdict::Reply(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn records(forward: bool) -> Records {
        let domain = [("web", vec![[10, 0, 0, 2], [10, 0, 0, 3]]), ("db", vec![[10, 0, 0, 4]])];
        let address = |bytes: [u8; 4]| Ipv4Addr::from(bytes);
        let domain: BTreeMap<_, _> =
            domain.into_iter().map(|(name, list)| (name.to_owned(), list.into_iter().map(address).collect())).collect();
        Records { domain, forward, forward_single_labels: false }
    }

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(Name::new_unchecked(name), kind.into(), CLASS::IN.into(), false));
        packet.build_bytes_vec().expect("query")
    }

    fn ask(name: &str, kind: TYPE, forward: bool) -> String {
        describe(&answer(&query(name, kind), &[&records(forward)], Transport::Udp))
    }

    fn describe(verdict: &Verdict) -> String {
        let Verdict::Reply(bytes) = verdict else { return format!("{verdict:?}") };
        let packet = Packet::parse(bytes).expect("reply");
        assert_eq!(packet.id(), 0x1234);
        assert!(packet.has_flags(PacketFlag::RESPONSE));
        let answers: Vec<_> = packet
            .answers
            .iter()
            .map(|record| match &record.rdata {
                RData::A(a) => Ipv4Addr::from(a.address).to_string(),
                RData::PTR(name) => name.0.to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        format!("{:?} {}", packet.rcode(), answers.join(" "))
    }

    #[test]
    fn known_names_have_their_addresses_in_any_case() {
        assert_eq!(ask("db", TYPE::A, true), "NoError 10.0.0.4");
        assert_eq!(ask("DB", TYPE::A, false), "NoError 10.0.0.4");
        assert_eq!(ask("web", TYPE::A, true), "NoError 10.0.0.2 10.0.0.3");
    }

    #[test]
    fn where_nobody_has_a_name_all_are_the_hosts() {
        let nobody = Records { forward: true, forward_single_labels: true, ..Records::default() };
        for name in ["proxy", "example.org", "4.3.2.1.in-addr.arpa"] {
            assert_eq!(answer(&query(name, TYPE::A), &[&nobody], Transport::Udp), Verdict::Forward, "{name}");
        }
    }

    #[test]
    fn known_names_have_no_other_records() {
        assert_eq!(ask("web", TYPE::AAAA, true), "NoError ");
        assert_eq!(ask("web", TYPE::MX, false), "NoError ");
    }

    #[test]
    fn unknown_single_labels_stay_on_the_host() {
        assert_eq!(ask("nowhere", TYPE::A, true), "NameError ");
        assert_eq!(ask("example.com", TYPE::A, true), "Forward");
        assert_eq!(ask("example.com", TYPE::A, false), "NameError ");
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(ask("4.0.0.10.in-addr.arpa", TYPE::PTR, true), "NoError db");
        assert_eq!(ask("9.9.9.9.in-addr.arpa", TYPE::PTR, true), "Forward");
        assert_eq!(ask("9.9.9.9.in-addr.arpa", TYPE::PTR, false), "NameError ");
    }

    #[test]
    fn many_addresses_ask_for_tcp() {
        let mut records = records(true);
        records.domain.insert("many".to_owned(), (0..100).map(|last| Ipv4Addr::new(10, 1, 0, last)).collect());
        let bytes = query("many", TYPE::A);
        let Verdict::Reply(short) = answer(&bytes, &[&records], Transport::Udp) else { panic!("no reply") };
        assert!(short.len() <= UDP_BYTES_MAX && short[2] & 0x02 != 0);
        let Verdict::Reply(long) = answer(&bytes, &[&records], Transport::Tcp) else { panic!("no reply") };
        assert_eq!(Packet::parse(&long).expect("reply").answers.len(), 100);
    }

    #[test]
    fn no_packet_makes_it_panic_or_answer_an_answer() {
        let good = query("web", TYPE::A);
        let known = records(false);
        for length in 0..good.len() {
            let verdict = answer(&good[..length], &[&known], Transport::Udp);
            assert!(length >= HEADER_BYTES || verdict == Verdict::Drop);
        }
        let mut state = 1u32;
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            let verdict = answer(&bytes, &[&known], Transport::Udp);
            assert!(bytes[2] & 0x80 == 0 || verdict == Verdict::Drop);
        }
    }

    #[test]
    fn strange_queries_are_refused_by_code() {
        let mut two = query("web", TYPE::A);
        two[5] = 2;
        assert!(matches!(answer(&two, &[], Transport::Udp), Verdict::Reply(reply) if reply[3] & 15 == 1));
        let mut status = query("web", TYPE::A);
        status[2] |= 0x10;
        assert!(matches!(answer(&status, &[], Transport::Udp), Verdict::Reply(reply) if reply[3] & 15 == 4));
    }
}

//! The chains and rules of our table, which never change while the table stands. Pure: no I/O.

use super::super::nftables::expression::{Connection, Expressions, FIRST, Field, Meta, Register, Verdict};
use super::super::nftables::message::{Base, Batch, Hook};
use super::super::nftables::read::Chain;
use super::super::{RESOLVER, RESOLVER_ADDRESS};
use super::contents::{Set, protocol_number};
use spec::value::{Digest, Protocol};
use std::collections::BTreeMap;

/// Where packets first pass: before connection tracking gives translated replies their loopback address back.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// First byte of 127.0.0.0/8.
const LOOPBACK: [u8; 1] = [127];

/// A chain, hooked or to be jumped to, and its rules in order, each with what it is for.
struct Layout {
    name: &'static str,
    base: Option<Base>,
    rules: Vec<(&'static str, Expressions)>,
}

/// Appends sets, chains and rules.
pub(super) fn write_layout(batch: &mut Batch<'_>) {
    for set in Set::ALL {
        batch.create_set(set.name(), set.key(), set.shape());
    }
    let layout = layout();
    // A rule may jump only to a chain that is there.
    for chain in &layout {
        batch.create_chain(chain.name, chain.base);
    }
    for chain in &layout {
        for (comment, rule) in &chain.rules {
            batch.append_rule(chain.name, comment, rule);
        }
    }
}

/// Appends all there is in a container's own table: its name server's port leads to where its shim listens.
pub(super) fn write_resolver(batch: &mut Batch<'_>) {
    batch.ensure_table("name resolution");
    batch.create_chain("output", Some(Base { kind: "nat", hook: Hook::Output, priority: PRIORITY_DESTINATION_NAT }));
    for (protocol, comment) in [(Protocol::Udp, "names over udp"), (Protocol::Tcp, "names over tcp")] {
        let rule = rule()
            .load(Field::Destination, FIRST)
            .equal(FIRST, &RESOLVER_ADDRESS.octets())
            .load_meta(Meta::Transport, FIRST)
            .equal(FIRST, &[protocol_number(protocol)])
            .load(Field::DestinationPort, FIRST)
            .equal(FIRST, &53u16.to_be_bytes())
            .translate_destination_to(*RESOLVER.ip(), RESOLVER.port());
        batch.append_rule("output", comment, &rule);
    }
}

/// Appends all there is in the table of a build: what comes by links of this prefix leaves in the host's name, and nothing comes to them
/// that they did not ask for.
pub(super) fn write_way_out(batch: &mut Batch<'_>, prefix: &str) {
    let by = |name| rule().load_meta(name, FIRST).equal(FIRST, prefix.as_bytes());
    batch.create_own_table("build steps");
    batch.create_chain("postrouting", base("nat", Hook::Postrouting, PRIORITY_SOURCE_NAT));
    batch.append_rule("postrouting", "the way out", &by(Meta::InputName).masquerade());
    batch.create_chain("forward", base("filter", Hook::Forward, PRIORITY_FILTER));
    let answers = by(Meta::OutputName).connection_is(Connection::Known).verdict(Verdict::Accept);
    batch.append_rule("forward", "what was let through goes on", &answers);
    batch.append_rule("forward", "nothing else comes in", &by(Meta::OutputName).verdict(Verdict::Drop));
}

/// The chains as they are read back.
pub(super) fn chains() -> BTreeMap<String, Chain> {
    let chain = |layout: Layout| {
        let hook = layout.base.map(|base| (base.hook as u32, base.priority));
        let rules = layout.rules.iter().map(|(comment, _)| (*comment).to_owned()).collect();
        (layout.name.to_owned(), Chain { hook, rules })
    };
    layout().into_iter().map(chain).collect()
}

/// The comment of the table: tells one of this version of the rules from one of another.
pub(super) fn layout_comment() -> String {
    let mut batch = Batch::new("");
    write_layout(&mut batch);
    format!("containers, layout {}", &Digest::of(&batch.fingerprint()).hex()[..12])
}

fn layout() -> [Layout; 6] {
    [spoofed(), publish(), prerouting(), output(), postrouting(), forward()]
}

/// A bridge routes packets from and to 127.0.0.0/8 (`route_localnet`), for localhost's sake; none may come from a container.
fn spoofed() -> Layout {
    let loopback = |field| from(Set::Bridges).load(field, FIRST).equal(FIRST, &LOOPBACK).verdict(Verdict::Drop);
    Layout {
        name: "spoofed",
        base: base("filter", Hook::Prerouting, PRIORITY_RAW),
        rules: vec![
            ("containers do not reach the host's loopback", loopback(Field::DestinationFirstByte)),
            ("nor pretend to be it", loopback(Field::SourceFirstByte)),
        ],
    }
}

/// Leads packets to the host's own addresses into containers.
fn publish() -> Layout {
    let at_one_address = rule()
        .load(Field::Destination, FIRST)
        .load_meta(Meta::Transport, Register::at(1))
        .load(Field::DestinationPort, Register::at(2))
        .look_up(Set::PublishedAt.name(), FIRST, FIRST)
        .translate_destination(FIRST, Register::at(1));
    let at_every_address = |rule: Expressions| {
        rule.load_meta(Meta::Transport, FIRST)
            .load(Field::DestinationPort, Register::at(1))
            .look_up(Set::Published.name(), FIRST, FIRST)
            .translate_destination(FIRST, Register::at(1))
    };
    let localhost = rule().load(Field::Destination, FIRST).equal(FIRST, &[127, 0, 0, 1]);
    let loopback = rule().load(Field::DestinationFirstByte, FIRST).equal(FIRST, &LOOPBACK);
    Layout {
        name: "publish",
        base: None,
        rules: vec![
            ("ports of one address", at_one_address),
            ("localhost", at_every_address(localhost)),
            // Port 53 of 127.0.0.53 is the host's resolver, whoever publishes 53.
            ("the rest of the loopback is the host's", loopback.verdict(Verdict::Return)),
            ("ports of every address", at_every_address(rule())),
        ],
    }
}

fn prerouting() -> Layout {
    let publish = rule().destination_is_local().verdict(Verdict::Jump("publish"));
    Layout { name: "prerouting", base: base("nat", Hook::Prerouting, PRIORITY_DESTINATION_NAT), rules: vec![("from others", publish)] }
}

fn output() -> Layout {
    let publish = rule().destination_is_local().verdict(Verdict::Jump("publish"));
    Layout { name: "output", base: base("nat", Hook::Output, PRIORITY_DESTINATION_NAT), rules: vec![("from this host", publish)] }
}

/// Gives packets a source that their answers come back to.
fn postrouting() -> Layout {
    // By the source's subnet: where `br_netfilter` translates inside a bridge the link it came in by is not known any more.
    let neighbour = rule().load(Field::Source, FIRST).load_meta(Meta::OutputName, Register::at(1)).within(Set::Neighbours.name(), FIRST);
    let from_localhost = to(Set::Bridges).load(Field::SourceFirstByte, FIRST).equal(FIRST, &LOOPBACK).masquerade();
    Layout {
        name: "postrouting",
        base: base("nat", Hook::Postrouting, PRIORITY_SOURCE_NAT),
        rules: vec![
            ("from localhost to a published port", from_localhost),
            // Without it a neighbour would answer directly, past the translation.
            ("to a published port of a neighbour or itself", neighbour.connection_is(Connection::DestinationTranslated).masquerade()),
            ("neighbours see each other as they are", within_bridge().verdict(Verdict::Return)),
            ("the way out", from(Set::Outward).masquerade()),
        ],
    }
}

/// Who may pass through this host.
fn forward() -> Layout {
    Layout {
        name: "forward",
        base: base("filter", Hook::Forward, PRIORITY_FILTER),
        rules: vec![
            ("what was let through goes on", rule().connection_is(Connection::Known).verdict(Verdict::Accept)),
            ("neighbours", within_bridge().verdict(Verdict::Accept)),
            ("internal networks have no way out", from(Set::Internal).verdict(Verdict::Drop)),
            ("nor in", to(Set::Internal).verdict(Verdict::Drop)),
            ("published ports", to(Set::Bridges).connection_is(Connection::DestinationTranslated).verdict(Verdict::Accept)),
            ("nothing else comes in, from other networks or from outside", to(Set::Bridges).verdict(Verdict::Drop)),
        ],
    }
}

fn rule() -> Expressions {
    Expressions::new()
}

fn base(kind: &'static str, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority })
}

/// What came in by a link of this set.
fn from(set: Set) -> Expressions {
    rule().load_meta(Meta::InputName, FIRST).within(set.name(), FIRST)
}

/// What goes out by a link of this set.
fn to(set: Set) -> Expressions {
    rule().load_meta(Meta::OutputName, FIRST).within(set.name(), FIRST)
}

/// What goes out by the bridge it came in by. A name takes four registers.
fn within_bridge() -> Expressions {
    rule().load_meta(Meta::InputName, FIRST).load_meta(Meta::OutputName, Register::at(4)).within(Set::WithinBridge.name(), FIRST)
}

//! What the kernel has: tables, chains, rules and elements, as far as we need to tell whether they are still ours.

use super::super::attributes::{Attributes, as_text, as_u32, find, read};
use super::super::netlink::{Answer, NetlinkError, Request, Socket};
use super::{DATA_VALUE, FAMILY_IP, USERDATA_COMMENT, chain, header, kind, rule, set, table};
use std::collections::BTreeMap;

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Hook number and priority, if it is a base chain.
    pub(crate) hook: Option<(u32, i32)>,
    /// Comments of its rules, in order; empty for a rule without one.
    pub(crate) rules: Vec<String>,
}

/// Elements of a set or map: key to data, first to last of a range, or key to nothing.
pub(crate) type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

/// The comment of the table, empty if it has none; `None` if there is no such table.
pub(crate) fn table_comment(socket: &mut Socket, name: &str) -> Result<Option<String>, NetlinkError> {
    let request = request(kind::GET_TABLE, Attributes::after_header(&header(FAMILY_IP, 0)).text(table::NAME, name));
    match socket.query(&[request]) {
        Ok(answers) => Ok(answers.first().map(|answer| comment(attributes_of(answer), table::USERDATA))),
        Err(error) if error.refusal() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The chains of a table with their rules.
pub(crate) fn chains(socket: &mut Socket, name: &str) -> Result<BTreeMap<String, Chain>, NetlinkError> {
    let all = |kind, attributes: Attributes| request(kind, attributes);
    let empty = || Attributes::after_header(&header(FAMILY_IP, 0));
    let mut chains = BTreeMap::new();
    // The kernel does not filter chains by table.
    for answer in socket.dump(&all(kind::GET_CHAIN, empty()))? {
        let attributes = attributes_of(&answer);
        if find(attributes, chain::TABLE).map(as_text).as_deref() != Some(name) {
            continue;
        }
        let hook = find(attributes, chain::HOOK).and_then(|hook| {
            let number = find(hook, chain::HOOK_NUMBER).and_then(as_u32)?;
            let priority = find(hook, chain::HOOK_PRIORITY)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))?;
            Some((number, priority))
        });
        let chain_name = find(attributes, chain::NAME).map(as_text).unwrap_or_default();
        chains.insert(chain_name, Chain { hook, rules: Vec::new() });
    }
    for answer in socket.dump(&all(kind::GET_RULE, empty().text(rule::TABLE, name)))? {
        let attributes = attributes_of(&answer);
        let chain_name = find(attributes, rule::CHAIN).map(as_text).unwrap_or_default();
        if let Some(chain) = chains.get_mut(&chain_name) {
            chain.rules.push(comment(attributes, rule::USERDATA));
        }
    }
    Ok(chains)
}

/// The elements of a set or map. `None` if there is no such set.
pub(crate) fn elements(socket: &mut Socket, name: &str, set: &str) -> Result<Option<Elements>, NetlinkError> {
    let attributes = Attributes::after_header(&header(FAMILY_IP, 0)).text(set::LIST_TABLE, name).text(set::LIST_SET, set);
    let answers = match socket.dump(&request(kind::GET_ELEMENT, attributes)) {
        Ok(answers) => answers,
        Err(error) if error.refusal() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut elements = Elements::new();
    for answer in &answers {
        for (_, element) in read(find(attributes_of(answer), set::LIST_ELEMENTS).unwrap_or_default()) {
            let value = |kind| find(element, kind).and_then(|data| find(data, DATA_VALUE)).map(<[u8]>::to_vec);
            let data = value(set::ELEMENT_DATA).or_else(|| value(set::ELEMENT_KEY_END));
            elements.insert(value(set::ELEMENT_KEY).unwrap_or_default(), data.unwrap_or_default());
        }
    }
    Ok(Some(elements))
}

fn request(kind: u16, attributes: Attributes) -> Request {
    Request { kind, flags: 0, payload: attributes.into_bytes() }
}

/// What follows the `struct nfgenmsg`.
fn attributes_of(answer: &Answer) -> &[u8] {
    answer.payload.get(4..).unwrap_or_default()
}

/// The comment in user data: a list of type, length, value.
fn comment(attributes: &[u8], userdata: u16) -> String {
    let mut bytes = find(attributes, userdata).unwrap_or_default();
    while let [kind, length, rest @ ..] = bytes {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        if *kind == USERDATA_COMMENT {
            return as_text(value);
        }
        bytes = rest;
    }
    String::new()
}

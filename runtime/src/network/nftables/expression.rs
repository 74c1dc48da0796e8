//! What rules are made of. Each function appends one expression; registers are chosen by the caller, as the kernel's virtual
//! machine wants it: four-byte registers of which a wide value takes several. Pure: no I/O.

use super::super::attributes::Attributes;
use super::{DATA_VALUE, FAMILY_IP, LIST_ELEMENT};
use std::net::Ipv4Addr;

/// A four-byte register, `NFT_REG32_00` and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(u32);

impl Register {
    /// The register so many times four bytes after the first.
    pub(crate) const fn at(word: u32) -> Self {
        Self(8 + word)
    }
}

/// Where most values go.
pub(crate) const FIRST: Register = Register::at(0);

/// What is known about a packet besides its bytes (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    /// Name of the link it came in by: four registers.
    InputName = 6,
    /// Name of the link it goes out by: four registers.
    OutputName = 7,
    /// Its transport protocol: one register, the number in its first byte.
    Transport = 16,
}

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Source address of IPv4.
    Source,
    /// Its first byte.
    SourceFirstByte,
    /// Destination address of IPv4.
    Destination,
    /// Its first byte.
    DestinationFirstByte,
    /// Destination port of TCP or UDP.
    DestinationPort,
}

/// What connection tracking knows about a packet's connection: (key, bit) pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Its state is established or related.
    Known,
    /// Its destination was translated.
    DestinationTranslated,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This table has nothing against it.
    Accept,
    /// It is dropped.
    Drop,
    /// Back to the calling chain, or the policy of a base chain.
    Return,
    /// On to another chain.
    Jump(&'static str),
}

/// The expressions of one rule, in order of evaluation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expressions(Attributes);

impl Expressions {
    /// A rule that matches everything.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The attributes of `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn attributes(&self) -> &Attributes {
        &self.0
    }

    /// Loads what is known about the packet.
    #[must_use]
    pub(crate) fn load_meta(self, key: Meta, to: Register) -> Self {
        self.push("meta", &Attributes::new().u32(1, to.0).u32(2, key as u32))
    }

    /// Loads a part of the packet.
    #[must_use]
    pub(crate) fn load(self, field: Field, to: Register) -> Self {
        const NETWORK_HEADER: u32 = 1;
        const TRANSPORT_HEADER: u32 = 2;
        let (base, offset, bytes) = match field {
            Field::Source => (NETWORK_HEADER, 12, 4),
            Field::SourceFirstByte => (NETWORK_HEADER, 12, 1),
            Field::Destination => (NETWORK_HEADER, 16, 4),
            Field::DestinationFirstByte => (NETWORK_HEADER, 16, 1),
            Field::DestinationPort => (TRANSPORT_HEADER, 2, 2),
        };
        self.push("payload", &Attributes::new().u32(1, to.0).u32(2, base).u32(3, offset).u32(4, bytes))
    }

    /// Goes on only if the register begins with these bytes.
    #[must_use]
    pub(crate) fn equal(self, register: Register, value: &[u8]) -> Self {
        const EQUAL: u32 = 0;
        self.compare(register, EQUAL, value)
    }

    /// Goes on only if the destination is an address of this host.
    #[must_use]
    pub(crate) fn destination_is_local(self) -> Self {
        const RESULT_ADDRESS_TYPE: u32 = 3;
        const FLAG_DESTINATION: u32 = 2;
        // RTN_LOCAL of rtnetlink, in host order.
        const LOCAL: u32 = 2;
        self.push("fib", &Attributes::new().u32(1, FIRST.0).u32(2, RESULT_ADDRESS_TYPE).u32(3, FLAG_DESTINATION))
            .equal(FIRST, &LOCAL.to_ne_bytes())
    }

    /// Goes on only if connection tracking says so.
    #[must_use]
    pub(crate) fn connection_is(self, what: Connection) -> Self {
        // NFT_CT_STATE with the bits of NF_CT_STATE_BIT; NFT_CT_STATUS with IPS_DST_NAT. All in host order.
        let (key, bits): (u32, u32) = match what {
            Connection::Known => (0, 0b110),
            Connection::DestinationTranslated => (2, 1 << 5),
        };
        const NOT_EQUAL: u32 = 1;
        let value = |bits: u32| Attributes::new().bytes(DATA_VALUE, &bits.to_ne_bytes());
        let mask = Attributes::new().u32(1, FIRST.0).u32(2, FIRST.0).u32(3, 4).nested(4, &value(bits)).nested(5, &value(0));
        self.push("ct", &Attributes::new().u32(1, FIRST.0).u32(2, key)).push("bitwise", &mask).compare(
            FIRST,
            NOT_EQUAL,
            &0u32.to_ne_bytes(),
        )
    }

    /// Goes on only if the set has what begins in this register.
    #[must_use]
    pub(crate) fn within(self, set: &str, key: Register) -> Self {
        self.push("lookup", &Attributes::new().text(1, set).u32(2, key.0))
    }

    /// Goes on only if the map has what begins in this register, with what it leads to in another.
    #[must_use]
    pub(crate) fn look_up(self, map: &str, key: Register, to: Register) -> Self {
        self.push("lookup", &Attributes::new().text(1, map).u32(2, key.0).u32(3, to.0))
    }

    /// Translates the destination of the connection to the address and port in two registers.
    #[must_use]
    pub(crate) fn translate_destination(self, address: Register, port: Register) -> Self {
        const DESTINATION: u32 = 1;
        const PORT_GIVEN: u32 = 2;
        let nat = Attributes::new().u32(1, DESTINATION).u32(2, u32::from(FAMILY_IP)).u32(3, address.0).u32(5, port.0).u32(7, PORT_GIVEN);
        self.push("nat", &nat)
    }

    /// Translates the destination of the connection to this address and port.
    #[must_use]
    pub(crate) fn translate_destination_to(self, address: Ipv4Addr, port: u16) -> Self {
        let (address_at, port_at) = (FIRST, Register::at(1));
        self.immediate(address_at, &address.octets()).immediate(port_at, &port.to_be_bytes()).translate_destination(address_at, port_at)
    }

    /// Translates the source of the connection to the address of the link it leaves by.
    #[must_use]
    pub(crate) fn masquerade(self) -> Self {
        self.push("masq", &Attributes::new())
    }

    /// Ends the evaluation.
    #[must_use]
    pub(crate) fn verdict(self, verdict: Verdict) -> Self {
        const VERDICT_REGISTER: u32 = 0;
        const DATA_VERDICT: u16 = 2;
        let (code, chain): (i32, _) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Return => (-5, None),
        };
        let value = Attributes::new().bytes(1, &code.to_be_bytes());
        let value = chain.map_or(value.clone(), |chain| value.text(2, chain));
        let data = Attributes::new().nested(DATA_VERDICT, &value);
        self.push("immediate", &Attributes::new().u32(1, VERDICT_REGISTER).nested(2, &data))
    }

    fn immediate(self, to: Register, value: &[u8]) -> Self {
        let data = Attributes::new().bytes(DATA_VALUE, value);
        self.push("immediate", &Attributes::new().u32(1, to.0).nested(2, &data))
    }

    fn compare(self, register: Register, operation: u32, value: &[u8]) -> Self {
        let data = Attributes::new().bytes(DATA_VALUE, value);
        self.push("cmp", &Attributes::new().u32(1, register.0).u32(2, operation).nested(3, &data))
    }

    fn push(self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::new().text(1, name).nested(2, data);
        Self(self.0.nested(LIST_ELEMENT, &expression))
    }
}

//! The PROXY protocol, by which a service hears who a connection is for (haproxy's
//! proxy-protocol.txt).

use curve_tun::PublicKey;
use ppp::v1;
use ppp::v2::{Builder, Command, Protocol, Version};
use std::io;
use std::net::SocketAddr;

/// The type of the field in a header of version 2 that holds the client's public key, 32 bytes. The
/// protocol leaves types from 0xE0 on to its users.
const KEY: u8 = 0xE0;

/// What is put before the first byte of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Header {
    /// A line of text, with the client's address
    V1,
    /// The binary header, with the client's address and key
    V2,
}

impl Header {
    /// Returns the header of a connection from `client`, whose tunnel came in at `server`.
    pub fn encode(self, client: SocketAddr, server: SocketAddr, key: &PublicKey) -> io::Result<Vec<u8>> {
        let (client, server) = (unmapped(client), unmapped(server));
        match self {
            Header::V1 => Ok(v1::Addresses::from((client, server)).to_string().into_bytes()),
            Header::V2 => {
                let builder = Builder::with_addresses(
                    Version::Two | Command::Proxy,
                    Protocol::Stream,
                    (client, server),
                );
                builder.write_tlv(KEY, &key.0)?.build()
            }
        }
    }
}

/// An IPv4 client is one, also where the socket takes both kinds.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_the_protocol_has_them() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let key = PublicKey([7; 32]);
        let (client, server) = (address("[::ffff:192.0.2.7]:1000"), address("198.51.100.1:443"));
        let v1 = Header::V1.encode(client, server, &key).unwrap();
        assert_eq!(v1, b"PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\r\n");
        let v1 = Header::V1.encode(address("[2001:db8::1]:5"), address("[2001:db8::2]:6"), &key).unwrap();
        assert_eq!(v1, b"PROXY TCP6 2001:db8::1 2001:db8::2 5 6\r\n");

        let v2 = Header::V2.encode(client, server, &key).unwrap();
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        // Version 2, PROXY; TCP over IPv4; 12 bytes of addresses, and a field of 3 and 32.
        let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x03, 0xe8, 0x01, 0xbb];
        let expected = [&signature[..], &[0x21, 0x11, 0, 47], &addresses, &[0xe0, 0, 32], &[7; 32]].concat();
        assert_eq!(v2, expected);
    }
}

//! The table as a name server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record};
use hickory_server::proto::serialize::binary::BinEncodable;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::{Answer, Dns, DnsFailure};

/// Ports that are tried until one is free for UDP and TCP.
const TRIES: usize = 20;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that wait on one TCP connection.
const BUFFERED: usize = 16;
/// Octets of an answer over UDP to a client that takes so many (RFC 9715 §3).
const MAX_DATAGRAM: u16 = 1_232;
/// Nobody may keep an answer: the table may change.
const TTL: u32 = 0;

/// A name server that answers from a [`Dns`] table, until it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    /// Its tasks end with it.
    _server: Server<Handler>,
}

struct Handler(Dns);

impl DnsServer {
    /// Where it listens, by UDP and by TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn start(table: Dns, address: SocketAddr) -> io::Result<Self> {
        let (udp, tcp) = bind(address).await?;
        let address = udp.local_addr()?;
        let mut server = Server::new(Handler(table));
        server.register_socket(udp);
        server.register_listener(tcp, IDLE, BUFFERED);
        Ok(Self { address, _server: server })
    }
}

impl fmt::Debug for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Binds both protocols to one port.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { TRIES } else { 1 };
    loop {
        tries -= 1;
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if tries == 0 => return Err(error),
            // The port is free for UDP only.
            Err(_) => {}
        }
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        // Stub resolvers ask for it: to them this server is all there is.
        metadata.recursion_available = true;
        let (code, mut records) = match self.answer(request) {
            Ok(records) => (ResponseCode::NoError, records),
            Err(Some(code)) => (code, Vec::new()),
            Err(None) => return unanswered(metadata),
        };
        metadata.response_code = code;
        let max_payload = request.max_payload().min(MAX_DATAGRAM);
        if request.protocol() == Protocol::Udp && size(request, &records) > usize::from(max_payload) {
            // The client comes again by TCP. Left to hickory, octets of the first record that does not fit would
            // stand behind the end of the answer.
            records.clear();
            metadata.truncation = true;
        }
        let mut edns = Edns::new();
        edns.set_max_payload(max_payload);
        let edns = request.edns.as_ref().map(|_| &edns);
        let builder = MessageResponseBuilder::new(&request.queries, edns);
        let response = builder.build(metadata, &records, [], [], []);
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(component = "testkit", %error, "an answer of the name server could not be sent");
                unanswered(metadata)
            }
        }
    }
}

impl Handler {
    /// The records that answer a request, or how it is refused; `Err(None)` is silence.
    fn answer(&self, request: &Request) -> Result<Vec<Record>, Option<ResponseCode>> {
        let query = match request.queries.queries() {
            [query] if query.query_class() == DNSClass::IN => query.original(),
            _ => return Err(Some(ResponseCode::Refused)),
        };
        let record = |(owner, data): (Name, RData)| Record::from_rdata(owner, TTL, data);
        match self.0.answer(query.name(), query.query_type()) {
            Answer::Records(found) => Ok(found.into_iter().map(record).collect()),
            Answer::Failure(DnsFailure::NotFound) => Err(Some(ResponseCode::NXDomain)),
            Answer::Failure(DnsFailure::Refused) => Err(Some(ResponseCode::Refused)),
            Answer::Failure(DnsFailure::ServFail) => Err(Some(ResponseCode::ServFail)),
            Answer::Failure(DnsFailure::Timeout) => Err(None),
        }
    }
}

/// An answer with these records has no more octets: it repeats the question, and the request is no shorter than that.
fn size(request: &Request, records: &[Record]) -> usize {
    let octets = |record: &Record| record.to_bytes().map_or(usize::MAX, |octets| octets.len());
    records.iter().map(octets).fold(request.as_slice().len(), usize::saturating_add)
}

fn unanswered(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

//! What the name servers say while one name is looked up.

use super::servers::Upstream;
use super::validity::Validity;
use crate::error::{Error, Result};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, DnsResponseStream, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The most questions that the validation of one name may ask, including repetitions. This limits
/// how much work forged answers can cause.
const ASKED_MAX: usize = 512;

/// Stands between the validation and the name servers: asks each question once, remembers the
/// answers, and passes on only what bears on the question.
#[derive(Clone)]
pub(super) struct Heard {
    upstream: Upstream,
    said: Arc<Mutex<Said>>,
}

type Answer = std::result::Result<DnsResponse, NetError>;

#[derive(Default)]
struct Said {
    asked: usize,
    answers: HashMap<(Name, RecordType), Answer>,
}

impl Heard {
    pub(super) fn new(upstream: Upstream) -> Heard {
        Heard { upstream, said: Arc::default() }
    }

    /// Returns the keys that a zone is said to have, with their signatures; empty if the server
    /// does not say.
    pub(super) async fn keys(&self, zone: &Name) -> Result<Vec<Record>> {
        let question = Query::query(zone.clone(), RecordType::DNSKEY);
        match self.lookup(question, options(true)).first_answer().await {
            Ok(response) => Ok(response.answers.clone()),
            Err(NetError::Dns(_)) => Ok(Vec::new()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Returns the time in which all signatures that may have counted are in force. These are all
    /// signatures heard that are in force at one of `times`, which are before and after the
    /// validation. A signature that did not count can shorten the time, but never lengthen it.
    pub(super) fn validity(&self, times: [u64; 2]) -> Validity {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let records = said.answers.values().flat_map(|answer| match answer {
            Ok(response) => [&response.answers[..], &response.authorities],
            Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                authorities: Some(records), ..
            }))) => [&records[..], &[]],
            Err(_) => [&[][..], &[]],
        });
        let signatures = records.flatten().filter_map(|record| signature(record).map(|(rrsig, _)| rrsig));
        let in_force =
            signatures.filter_map(|rrsig| times.into_iter().find_map(|time| Validity::of(rrsig, time)));
        in_force.fold(Validity::ALWAYS, Validity::and)
    }

    async fn answer(self, request: DnsRequest) -> Answer {
        let Some(query) = request.queries.first() else { return Err(NetError::from("no question")) };
        let question = (query.name().clone(), query.query_type());
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            said.asked += 1;
            if said.asked > ASKED_MAX {
                return Err(DnsError::DnssecBogus.into());
            }
            if let Some(answer) = said.answers.get(&question) {
                return answer.clone();
            }
        }
        let answer = self.upstream.send(request).first_answer().await;
        let answer = answer.and_then(|response| bearing_on(&question.0, question.1, response));
        // Any other failure is worth another try.
        if matches!(answer, Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_)))) {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            return said.answers.entry(question).or_insert(answer).clone();
        }
        answer
    }
}

impl DnsHandle for Heard {
    type Response = DnsResponseStream;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> DnsResponseStream {
        Box::pin(self.clone().answer(request)).into()
    }
}

/// Returns the options for a question.
pub(super) fn options(signatures: bool) -> DnsRequestOptions {
    let mut options = DnsRequestOptions::default();
    options.edns_set_dnssec_ok = signatures;
    options
}

/// Removes from an answer the records that do not bear on its question. The resolver's library
/// would prove them, too, and be misled by their signatures.
fn bearing_on(name: &Name, kind: RecordType, mut response: DnsResponse) -> Answer {
    let answers = |kind_of: RecordType| kind_of == kind || kind_of == RecordType::CNAME;
    response.answers.retain(|record| {
        record.name == *name
            && answers(signature(record).map_or(record.record_type(), |(_, covered)| covered))
    });
    response.authorities.retain(|record| {
        let kind_of = signature(record).map_or(record.record_type(), |(_, covered)| covered);
        let denies = matches!(kind_of, RecordType::SOA | RecordType::NSEC | RecordType::NSEC3);
        denies || (kind == RecordType::NS && kind_of == kind && record.name == *name)
    });
    response.additionals.clear();
    let parts = [&response.answers, &response.authorities];
    if parts.into_iter().all(|records| signatures_agree(records)) {
        Ok(response)
    } else {
        Err(DnsError::DnssecBogus.into())
    }
}

/// Returns whether all signatures of each set of records agree on how many labels its name has in
/// the zone. The resolver's library believes the first one, proven or not. If several differ, at
/// most one is genuine.
fn signatures_agree(records: &[Record]) -> bool {
    let mut labels = HashMap::new();
    records.iter().filter_map(|record| Some((record, signature(record)?))).all(
        |(record, (rrsig, covered))| {
            let said = rrsig.input().num_labels;
            *labels.entry((&record.name, covered)).or_insert(said) == said
        },
    )
}

/// Returns the signature that a record holds, and the type of record that it covers.
pub(super) fn signature(record: &Record) -> Option<(&RRSIG, RecordType)> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some((rrsig, rrsig.input().type_covered)),
        _ => None,
    }
}

pub(super) fn failure(error: &NetError) -> Error {
    match error {
        NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => Error::NotValidated,
        NetError::Timeout => Error::Timeout,
        _ => Error::RegistryFailed,
    }
}

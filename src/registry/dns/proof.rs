//! Finds out what DNS says about a name, and whether that is proven.
//!
//! The resolver's library proves records, from the anchors down. What its proof leaves open is
//! checked here and in `heard`, `wildcard` and `anchors`; `docs/UPSTREAM.md` says what that is.

use super::anchors::Anchors;
use super::heard::{Heard, failure, options, signature};
use super::names::is_of_server;
use super::record::{KeyRecord, parse};
use super::servers::Upstream;
use super::validity::{Validity, now};
use super::wildcard;
use crate::error::{Error, Result};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::sync::Arc;
use std::time::Duration;

/// The most keys that are taken from one name.
const KEYS_MAX: usize = 64;
/// The most CNAMEs that are followed from a name.
const CHAIN_MAX: usize = 8;

/// The records of a name, and the validity of their proof.
struct Proven {
    records: Vec<Record>,
    is_wildcard: bool,
    validity: Validity,
}

/// What DNS says about a name, and for how long.
pub(super) struct Found {
    pub records: Vec<KeyRecord>,
    /// The smallest TTL of all records on the way.
    pub ttl: Duration,
    /// The time in which all signatures on the way are in force.
    pub validity: Validity,
}

/// Looks up the keys at `name`, or at the name that it is an alias of. If there are anchors, the
/// answer must be proven from them down; otherwise it is accepted as the name servers say it.
pub(super) async fn look(upstream: &Upstream, anchors: Option<&Anchors>, name: &Name) -> Result<Found> {
    let mut found = Found { records: Vec::new(), ttl: Duration::MAX, validity: Validity::ALWAYS };
    let mut at = name.clone();
    // Each name is asked for by itself, so that each answer is judged for its own name.
    for _ in 0..=CHAIN_MAX {
        let records = match anchors {
            Some(anchors) => {
                let proven = proven(upstream, anchors, &at).await?;
                found.validity = found.validity.and(proven.validity);
                // The wildcard of a network is for its clients, and none of them may pose as a
                // server there.
                if proven.is_wildcard && is_of_server(&at) { Vec::new() } else { proven.records }
            }
            None => said(upstream, &at).await?,
        };
        let ttl = records.iter().map(|record| Duration::from_secs(record.ttl.into())).min();
        found.ttl = found.ttl.min(ttl.unwrap_or(Duration::MAX));
        match records.iter().find_map(alias) {
            Some(target) => at = target.to_lowercase(),
            None => {
                found.records = keys(&records);
                break;
            }
        }
    }
    Ok(found)
}

/// Returns the records at `name` as a name server says them.
async fn said(upstream: &Upstream, name: &Name) -> Result<Vec<Record>> {
    let question = Query::query(name.clone(), RecordType::TXT);
    match upstream.lookup(question, options(false)).first_answer().await {
        Ok(response) => Ok(answers(name, &response)),
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Vec::new()),
        Err(error) => Err(failure(&error)),
    }
}

/// Returns the proven records at `name`; none if it is proven that there are none.
async fn proven(upstream: &Upstream, anchors: &Anchors, name: &Name) -> Result<Proven> {
    let (heard, begun) = (Heard::new(upstream.clone()), now());
    let trusted = anchors.proven(&heard, name).await?;
    // A validation from a cache does not look at the clock again, so none is cached.
    let prover =
        DnssecDnsHandle::with_trust_anchor(heard.clone(), Arc::new(trusted)).validation_cache_size(0);
    let question = Query::query(name.clone(), RecordType::TXT);
    let (response, denied) = match prover.lookup(question, options(true)).first_answer().await {
        Ok(response) => (response, true),
        // The response says which records are proven. If it has records, the denial of closer names
        // is judged below.
        Err(NetError::Dns(DnsError::Nsec { response, .. })) => (*response, false),
        Err(error) => return Err(failure(&error)),
    };
    let records = answers(name, &response);
    let is_wildcard = match records.first() {
        Some(first) => {
            let kind = first.record_type();
            let proven =
                records.iter().all(|record| record.record_type() == kind && record.proof.is_secure());
            // An alias must stand alone.
            let whole = kind != RecordType::CNAME || records.len() == 1;
            wildcard_of(name, kind, &response).filter(|_| proven && whole)
        }
        None => {
            let denial = |record: &Record| is_denial(record) && record.proof.is_secure();
            (denied && response.authorities.iter().any(denial)).then_some(false)
        }
    };
    let is_wildcard = is_wildcard.ok_or(Error::NotValidated)?;
    Ok(Proven { records, is_wildcard, validity: heard.validity([begun, now()]) })
}

/// Returns the TXT and CNAME records of a name among the answers. A record of any other name is not
/// an answer.
fn answers(name: &Name, response: &DnsResponse) -> Vec<Record> {
    let here = response.answers.iter().filter(|record| record.name == *name);
    here.filter(|record| matches!(record.data, RData::TXT(_) | RData::CNAME(_))).cloned().collect()
}

/// Returns whether the proven signature says that the records are those of a wildcard, rather than
/// the name's own. `None` if no signature is proven, or if another wildcard or name is closer.
fn wildcard_of(name: &Name, kind: RecordType, response: &DnsResponse) -> Option<bool> {
    let proven = response.answers.iter().filter(|record| record.name == *name && record.proof.is_secure());
    let (rrsig, _) = proven.filter_map(signature).find(|(_, covered)| *covered == kind)?;
    let input = rrsig.input();
    let is_own = input.num_labels == name.num_labels();
    (is_own || wildcard::is_closest(name, input.num_labels, &input.signer_name, &response.authorities))
        .then_some(!is_own)
}

fn is_denial(record: &Record) -> bool {
    matches!(record.data, RData::DNSSEC(DNSSECRData::NSEC(_) | DNSSECRData::NSEC3(_)))
}

fn alias(record: &Record) -> Option<&Name> {
    match &record.data {
        RData::CNAME(target) => Some(&target.0),
        _ => None,
    }
}

fn keys(records: &[Record]) -> Vec<KeyRecord> {
    let keys = records.iter().filter_map(|record| match &record.data {
        RData::TXT(text) => parse(&text.txt_data.concat()),
        _ => None,
    });
    keys.take(KEYS_MAX).collect()
}

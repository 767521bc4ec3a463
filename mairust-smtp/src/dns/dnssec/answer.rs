//! What an answer says of the name that was asked for.
//!
//! An answer is a message with records of many names, of which an attacker may add some. So only those of the name
//! itself count, and that there is nothing is believed only of a zone which the name lies in.

use hickory_resolver::net::NoRecords;
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::dns::ResolveError;
use crate::dns::servers::text;
use crate::dns::validating::{HostProof, Proven};

/// What a name leads to over its aliases.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) data: Vec<RData>,
    /// The name that has them.
    pub(super) end: Name,
    /// Every link is signed, and the end, too.
    pub(super) secure: bool,
    /// The first link is an alias, and signed.
    pub(super) alias: bool,
}

impl Chain {
    pub(super) fn proven<T>(&self, value: T) -> Proven<T> {
        Proven { value, name: text(&self.end), secure: self.secure }
    }

    pub(super) fn proof(&self) -> HostProof {
        match self {
            Self { secure: true, end, .. } => HostProof::Addresses(text(end)),
            Self { alias: true, .. } => HostProof::Alias,
            Self { .. } => HostProof::Nothing,
        }
    }
}

/// What a name has itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) data: Vec<RData>,
    pub(super) secure: bool,
}

impl Found {
    /// The records of this kind, if there are any: otherwise the name may be an alias.
    pub(super) fn read(
        name: &Name,
        kind: RecordType,
        answers: &[Record],
        authorities: &[Record],
    ) -> Result<Option<Self>, ResolveError> {
        let secure = all_secure(owned_by(name, kind, answers))?;
        let data: Vec<_> = owned_by(name, kind, answers).map(|record| record.data.clone()).collect();
        if data.is_empty() {
            return Ok(None);
        }
        // RFC 4035 §5.3.4: a wildcard stands for names that are proven not to exist. The resolver does not insist on
        // that where the proof is replaced by records of a zone that nobody signs.
        if secure && is_expanded(name, kind, answers) && !authorities.iter().any(denies) {
            return Err(ResolveError::Temporary(format!("a wildcard stands for {name} without a proof")));
        }
        Ok(Some(Self { data, secure }))
    }

    /// What an answer says whose denials are too costly to verify.
    pub(super) fn unsigned(name: &Name, kind: RecordType, answer: &Message) -> Result<Option<Self>, ResolveError> {
        if answer.metadata.response_code == ResponseCode::NXDomain {
            return Err(ResolveError::NotFound);
        }
        let data: Vec<_> = owned_by(name, kind, &answer.answers).map(|record| record.data.clone()).collect();
        let is_alias = data.is_empty() && owned_by(name, RecordType::CNAME, &answer.answers).next().is_some();
        Ok((!is_alias).then_some(Self { data, secure: false }))
    }
}

fn owned_by<'a>(name: &'a Name, kind: RecordType, answers: &'a [Record]) -> impl Iterator<Item = &'a Record> {
    answers.iter().filter(move |record| record.record_type() == kind && record.name == *name)
}

/// Whether the signature is that of a wildcard.
fn is_expanded(name: &Name, kind: RecordType, answers: &[Record]) -> bool {
    owned_by(name, RecordType::RRSIG, answers).any(|record| {
        let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data else { return false };
        signature.input().type_covered == kind && signature.input().num_labels < name.num_labels()
    })
}

/// Whether a record proves that something does not exist.
fn denies(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3) && record.proof == Proof::Secure
}

pub(super) fn unfit(name: &Name) -> ResolveError {
    ResolveError::Temporary(format!("what is answered about {name} does not fit the question"))
}

/// What it means that there is nothing. The zone that says so must be one that the name lies in: anybody can add the
/// word of another zone, which nobody signs.
pub(super) fn denied(none: &NoRecords) -> Result<Found, ResolveError> {
    let authorities = none.authorities.as_deref().unwrap_or_default();
    let word = authorities
        .iter()
        .find(|record| record.record_type() == RecordType::SOA && record.name.zone_of(none.query.name()));
    let Some(word) = word else {
        let text = format!("nobody answers for the zone of {}", none.query.name());
        return Err(ResolveError::Temporary(text));
    };
    let secure = all_secure([word])?;
    match none.response_code {
        ResponseCode::NXDomain => Err(ResolveError::NotFound),
        _ => Ok(Found { data: Vec::new(), secure }),
    }
}

/// Whether the records are signed, and not just in a zone that nobody signs.
fn all_secure<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<bool, ResolveError> {
    let mut secure = true;
    for record in records {
        match record.proof {
            Proof::Secure => {}
            Proof::Insecure => secure = false,
            Proof::Bogus | Proof::Indeterminate => {
                let text = format!("the signatures of {} are not in order", record.name);
                return Err(ResolveError::Temporary(text));
            }
        }
    }
    Ok(secure)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::Algorithm;
    use hickory_resolver::proto::dnssec::rdata::{NSEC, RRSIG, SigInput};
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::SerialNumber;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn proven(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    fn address(owner: &str, proof: Proof) -> Record {
        proven(owner, RData::A(A([192, 0, 2, 1].into())), proof)
    }

    fn alias(owner: &str, target: &str, proof: Proof) -> Record {
        proven(owner, RData::CNAME(CNAME(name(target))), proof)
    }

    fn read(answers: &[Record], authorities: &[Record]) -> Result<Option<bool>, ResolveError> {
        let found = Found::read(&name("a.example."), RecordType::A, answers, authorities)?;
        Ok(found.map(|found| found.secure))
    }

    /// A signature for `a.example.` by a name of so many labels.
    fn signature(labels: u8) -> Record {
        let [expiration, inception] = [2, 1].map(SerialNumber::new);
        let input = SigInput {
            type_covered: RecordType::A,
            algorithm: Algorithm::ED25519,
            num_labels: labels,
            original_ttl: 60,
            sig_expiration: expiration,
            sig_inception: inception,
            key_tag: 1,
            signer_name: name("example."),
        };
        let rrsig = RRSIG::from_sig(input, vec![0]);
        proven("a.example.", RData::DNSSEC(DNSSECRData::RRSIG(rrsig)), Proof::Secure)
    }

    fn denial(proof: Proof) -> Record {
        proven("example.", RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(name("b.example."), []))), proof)
    }

    #[test]
    fn what_counts_are_the_records_of_the_name() {
        use Proof::{Bogus, Indeterminate, Insecure, Secure};
        for (answers, expected) in [
            (vec![address("A.Example.", Secure)], Some(true)),
            (vec![address("a.example.", Insecure)], Some(false)),
            // What an attacker adds of other names is nothing to the answer.
            (vec![address("a.example.", Secure), address("evil.example.", Insecure)], Some(true)),
            (vec![address("a.example.", Secure), alias("x.example.", "a.example.", Insecure)], Some(true)),
            (vec![alias("a.example.", "b.example.", Insecure), address("b.example.", Secure)], None),
            (vec![address("b.example.", Secure)], None),
            (vec![], None),
        ] {
            assert_eq!(read(&answers, &[]).unwrap(), expected, "{answers:?}");
        }
        for proof in [Bogus, Indeterminate] {
            assert!(matches!(read(&[address("a.example.", proof)], &[]), Err(ResolveError::Temporary(_))));
        }
    }

    #[test]
    fn wildcards_stand_for_what_is_proven_not_to_exist() {
        use Proof::{Insecure, Secure};
        let address = |labels| [address("a.example.", Secure), signature(labels)];
        assert_eq!(read(&address(2), &[denial(Insecure)]).unwrap(), Some(true));
        assert_eq!(read(&address(1), &[denial(Secure)]).unwrap(), Some(true));
        for authorities in [vec![], vec![denial(Insecure)]] {
            assert!(matches!(read(&address(1), &authorities), Err(ResolveError::Temporary(_))));
        }
    }

    #[test]
    fn a_chain_is_as_good_as_its_weakest_link() {
        let chain = |secure, alias| Chain { data: Vec::new(), end: name("b.example."), secure, alias }.proof();
        assert_eq!(chain(true, true), HostProof::Addresses("b.example".to_owned()));
        assert_eq!(chain(true, false), HostProof::Addresses("b.example".to_owned()));
        assert_eq!((chain(false, true), chain(false, false)), (HostProof::Alias, HostProof::Nothing));
    }

    /// An answer without records, with the word of this zone.
    fn nothing(zone: Option<(&str, Proof)>, code: ResponseCode) -> NoRecords {
        let word = |(zone, proof)| {
            let soa = SOA::new(name(zone), name(zone), 1, 2, 3, 4, 5);
            proven(zone, RData::SOA(soa), proof)
        };
        let mut none = NoRecords::new(Query::query(name("a.b.example."), RecordType::A), code);
        none.authorities = zone.map(|zone| vec![word(zone)].into());
        none
    }

    #[test]
    fn that_there_is_nothing_is_believed_of_zones_that_hold_the_name() {
        use Proof::{Bogus, Insecure, Secure};
        for zone in [("b.example.", Secure), ("example.", Insecure), (".", Secure)] {
            let found = denied(&nothing(Some(zone), ResponseCode::NoError)).unwrap();
            assert_eq!((found.data.len(), found.secure), (0, zone.1 == Secure));
            let gone = denied(&nothing(Some(zone), ResponseCode::NXDomain)).unwrap_err();
            assert_eq!(gone, ResolveError::NotFound);
        }
        for zone in
            [None, Some(("evil.example.", Insecure)), Some(("evil.example.", Secure)), Some(("example.", Bogus))]
        {
            for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
                assert!(matches!(denied(&nothing(zone, code)), Err(ResolveError::Temporary(_))), "{zone:?}");
            }
        }
    }
}

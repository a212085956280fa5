//! Showing openings and disclosures to whoever asks over a circuit.
//!
//! A circuit hides who asks, so nothing here depends on it: what is for some is sealed to them,
//! and what is not to be shown is answered like what is not here.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nonos_identity::Digest;
use nonos_identity::wire::{self, Wire as _};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::inquiry::{Answer, Question};
use crate::openings::Openings;
use crate::records::Disclosure;
use crate::submit::{PATIENCE, answer_with, read_record, write_record};
use crate::tasks::blocking;
use crate::{clock, files};

/// Directory of the disclosures that this node carries for others. Its own ones are elsewhere and
/// never served: to have one for a receipt would tell everybody who ran.
const CARRIED: &str = "carried";

/// Questions that one circuit may ask at once: all fields of a manifest, and some more.
const BURST: u32 = 96;
/// Time after which a circuit may ask one question more. Each costs a look at the disk.
const REFILL: Duration = Duration::from_millis(500);
/// Circuits remembered at a time; bounds memory. One more is told to come again.
const CIRCUITS_MAX: usize = 4096;

/// What a node shows, and how often.
#[derive(Debug)]
pub(crate) struct Desk {
    data_dir: PathBuf,
    /// Questions left, by the circuit's number.
    circuits: Mutex<BTreeMap<u64, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    at: Instant,
}

impl Bucket {
    fn refilled(self, now: Instant) -> Self {
        let gained = now.saturating_duration_since(self.at).as_millis() / REFILL.as_millis();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        match self.left.saturating_add(gained) {
            left if left >= BURST => Self { left: BURST, at: now },
            left => Self { left, at: self.at + REFILL * gained },
        }
    }
}

impl Desk {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.into(), circuits: Mutex::default() }
    }

    /// Takes one question of a circuit's allowance.
    fn admits(&self, circuit: u64, now: Instant) -> bool {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        if circuits.len() >= CIRCUITS_MAX && !circuits.contains_key(&circuit) {
            // Who has its whole allowance again needs no memory.
            circuits.retain(|_, bucket| bucket.refilled(now).left < BURST);
            if circuits.len() >= CIRCUITS_MAX {
                return false;
            }
        }
        let bucket = circuits.entry(circuit).or_insert(Bucket { left: BURST, at: now });
        *bucket = bucket.refilled(now);
        let admitted = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        admitted
    }

    /// What everybody is told.
    pub(crate) fn answer(&self, question: &Question) -> Answer {
        let shown = match question {
            Question::Field { capsule, field } => match Openings::load(&self.data_dir, capsule) {
                Ok(openings) => {
                    let shown = openings.as_ref().and_then(|all| all.shown(*field, clock::now()));
                    shown.cloned().map(Answer::Field)
                }
                Err(error) => {
                    tracing::warn!(%error, "kept openings are of no use");
                    None
                }
            },
            Question::Receipt(receipt) => self.carried(receipt).map(Answer::Receipt),
        };
        shown.unwrap_or(Answer::Withheld)
    }

    fn carried(&self, receipt: &Digest) -> Option<Disclosure> {
        let bytes = std::fs::read(self.carried_path(receipt)).ok()?;
        wire::from_bytes(&bytes).ok()
    }

    fn carried_path(&self, receipt: &Digest) -> PathBuf {
        self.data_dir.join(CARRIED).join(format!("{receipt}.disclosure"))
    }

    /// Keeps the disclosure of somebody else's run, to be fetched by its auditors. The caller has
    /// checked that it is of this receipt.
    pub(crate) fn carry(&self, receipt: &Digest, disclosure: &Disclosure) -> io::Result<()> {
        let bytes = wire::to_bytes(disclosure);
        if bytes.len() > Disclosure::MAX_BYTES {
            // It came inside a record that may be longer.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "disclosure exceeds its limit"));
        }
        let directory = self.data_dir.join(CARRIED);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        files::replace_secret(&self.carried_path(receipt), &bytes)
    }
}

/// Answers the questions of one stream in their order, until its client ends it.
pub(crate) async fn serve(
    desk: &Arc<Desk>,
    circuit: u64,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    // The allowance of the circuit ends every stream, so it is no endless one.
    loop {
        let question = match read_record(&mut stream, Question::MAX_BYTES).await {
            Ok(bytes) => wire::from_bytes::<Question>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(question) = question else {
            return answer_with(&mut stream, &wire::to_bytes(&Answer::Malformed)).await;
        };
        if !desk.admits(circuit, Instant::now()) {
            return answer_with(&mut stream, &wire::to_bytes(&Answer::Busy)).await;
        }
        let clerk = desk.clone();
        let answer = blocking(move || clerk.answer(&question)).await.unwrap_or(Answer::Busy);
        // Who asks and never reads keeps its place no longer than who is silent.
        let answer = wire::to_bytes(&answer);
        let written = tokio::time::timeout(PATIENCE, write_record(&mut stream, &answer)).await;
        written.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

#[cfg(test)]
mod tests {
    use nonos_capsule::{CapsuleId, Field, HiddenFields, Release};
    use nonos_identity::{SharedBox, StaticSecret, Timestamp, WideDigest};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::openings::Shown;
    use crate::records::Sealed;

    fn capsule() -> CapsuleId {
        CapsuleId::from_digest(WideDigest::from_bytes([1; 64]))
    }

    fn question(field: u8) -> Question {
        Question::Field { capsule: capsule(), field }
    }

    /// A desk that keeps four fields: for everybody, from long ago, not yet, the author's.
    fn desk() -> (tempfile::TempDir, Arc<Desk>) {
        let dir = tempfile::tempdir().expect("a directory");
        let rules = [
            Release::Public,
            Release::After(Timestamp::from_secs(1)),
            Release::After(Timestamp::from_secs(u64::MAX)),
            Release::Author,
        ];
        let field = |release| Field { name: "name".into(), value: "value".into(), release };
        let fields = HiddenFields::new([7; 32], rules.map(field).into()).expect("within the rules");
        let hidden = fields.commit().expect("valid");
        let openings = Openings::of(capsule(), &hidden, &fields).expect("they fit");
        openings.save(dir.path()).expect("written");
        let desk = Arc::new(Desk::new(dir.path()));
        (dir, desk)
    }

    /// A client's end of a stream that is served.
    fn stream(desk: &Arc<Desk>) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let desk = desk.clone();
        tokio::spawn(async move { serve(&desk, 1, server).await });
        client
    }

    async fn ask(client: &mut DuplexStream, question: &Question) -> Answer {
        write_record(client, &wire::to_bytes(question)).await.expect("taken");
        read(client).await
    }

    async fn read(client: &mut DuplexStream) -> Answer {
        let bytes = read_record(client, Answer::MAX_BYTES).await.expect("an answer");
        wire::from_bytes(&bytes).expect("canonical")
    }

    /// An answer of this kind ends the stream, with nothing left to read.
    async fn ends(mut client: DuplexStream, answer: Answer) {
        assert_eq!(read(&mut client).await, answer);
        assert_eq!(client.read(&mut [0; 1]).await.expect("ended"), 0);
    }

    #[tokio::test]
    async fn what_is_not_shown_answers_like_what_is_not_here() {
        let (_dir, desk) = desk();
        let mut client = stream(&desk);
        for field in [0, 1] {
            let answer = ask(&mut client, &question(field)).await;
            let Answer::Field(Shown::Plain(opening)) = answer else { panic!("{answer:?}") };
            assert_eq!((opening.index, opening.value.as_str()), (field, "value"));
        }
        let elsewhere = CapsuleId::from_digest(WideDigest::from_bytes([2; 64]));
        let missing = Question::Field { capsule: elsewhere, field: 0 };
        let receipt = Question::Receipt(Digest::of_bytes(b"receipt"));
        for question in [question(2), question(3), question(4), question(255), missing, receipt] {
            assert_eq!(ask(&mut client, &question).await, Answer::Withheld, "{question:?}");
        }
    }

    #[tokio::test]
    async fn an_oversized_or_malformed_question_ends_its_stream() {
        let (_dir, desk) = desk();
        let mut client = stream(&desk);
        client.write_u32(u32::MAX).await.expect("taken");
        ends(client, Answer::Malformed).await;
        let mut client = stream(&desk);
        let one_more = u32::try_from(Question::MAX_BYTES + 1).expect("small");
        client.write_u32(one_more).await.expect("taken");
        ends(client, Answer::Malformed).await;
        let mut client = stream(&desk);
        write_record(&mut client, b"what?").await.expect("taken");
        ends(client, Answer::Malformed).await;
    }

    #[tokio::test]
    async fn a_circuit_asks_no_more_than_its_allowance_over_any_streams() {
        let (_dir, desk) = desk();
        for _ in 0..2 {
            let mut client = stream(&desk);
            for _ in 0..BURST / 2 {
                assert!(matches!(ask(&mut client, &question(0)).await, Answer::Field(_)));
            }
        }
        // The clock may have given some back meanwhile.
        let mut client = stream(&desk);
        let mut given = 0;
        let last = loop {
            match ask(&mut client, &question(0)).await {
                Answer::Field(_) if given < BURST => given += 1,
                answer => break answer,
            }
        };
        assert_eq!(last, Answer::Busy);
        assert_eq!(client.read(&mut [0; 1]).await.expect("ended"), 0);
    }

    #[test]
    fn an_allowance_comes_back_and_the_table_is_bounded() {
        let desk = Desk::new(Path::new("nowhere"));
        let begin = Instant::now();
        let taken = |circuit, now| (0..=BURST).filter(|_| desk.admits(circuit, now)).count();
        let all = usize::try_from(BURST).expect("small");
        assert_eq!(taken(1, begin), all);
        assert!(!desk.admits(1, begin + REFILL / 2));
        assert!(desk.admits(1, begin + REFILL));
        assert!(!desk.admits(1, begin + REFILL));
        let later = begin + REFILL * (BURST + 2);
        assert_eq!(taken(1, later), all, "never more than the burst");
        for circuit in 2..=u64::try_from(CIRCUITS_MAX).expect("small") {
            assert!(desk.admits(circuit, later));
        }
        assert!(!desk.admits(0, later), "the table is full");
        assert!(desk.admits(2, later), "and who is in it stays");
        assert!(desk.admits(0, later + REFILL * 2), "those who have all again make place");
        assert!(desk.circuits.lock().expect("whole").len() <= CIRCUITS_MAX);
    }

    #[test]
    fn a_carried_disclosure_is_found_by_its_receipt() {
        let (_dir, desk) = desk();
        let to = StaticSecret::from_bytes(&[1; 32]).public();
        let ephemeral = StaticSecret::from_bytes(&[2; 32]);
        let opening = SharedBox::seal(&[to], &ephemeral, crate::domains::SEED, b"", b"x").expect("a key");
        let disclosure = Disclosure { receipt: Sealed(vec![1; 9]), opening };
        let receipt = Digest::of_bytes(b"receipt");
        desk.carry(&receipt, &disclosure).expect("written");
        assert_eq!(desk.answer(&Question::Receipt(receipt)), Answer::Receipt(disclosure.clone()));
        assert_eq!(desk.answer(&Question::Receipt(Digest::of_bytes(b"other"))), Answer::Withheld);
        let bloated = Disclosure { receipt: Sealed(vec![1; Disclosure::MAX_BYTES]), ..disclosure };
        assert!(desk.carry(&receipt, &bloated).is_err());
    }
}

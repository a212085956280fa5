//! What a comparison prints: rows of medians with their anchors, spreads and targets.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Which way is good.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// What a target binds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Of {
    /// Our own figure, in the unit of the row.
    Ours,
    /// Our figure over the anchor's.
    Ratio,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    /// Nothing where there is only the anchor.
    ours: Option<f64>,
    anchor: Option<f64>,
    anchor_name: Option<Cow<'static, str>>,
    ratio: Option<f64>,
    spread: f64,
    target: Option<f64>,
    target_of: Option<Of>,
    holds: Option<bool>,
}

impl Row {
    /// A row of figures taken round by round, ours and the anchor's in the same round.
    pub(crate) fn paired(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        ours: &[f64],
        anchor_name: impl Into<Cow<'static, str>>,
        anchor: &[f64],
    ) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(anchor).map(|(ours, anchor)| ours / anchor).collect();
        Self {
            anchor: Some(median(anchor)),
            anchor_name: Some(anchor_name.into()),
            ratio: Some(median(&ratios)),
            spread: spread(&ratios),
            ..Self::alone(name, unit, better, ours)
        }
    }

    /// A row that nothing is compared with.
    pub(crate) fn alone(name: impl Into<String>, unit: &'static str, better: Better, ours: &[f64]) -> Self {
        Self {
            name: name.into(),
            unit,
            better,
            ours: Some(median(ours)),
            anchor: None,
            anchor_name: None,
            ratio: None,
            spread: spread(ours),
            target: None,
            target_of: None,
            holds: None,
        }
    }

    /// The geometric mean, round by round, of the ratios of several comparisons.
    pub(crate) fn mean(
        name: impl Into<String>,
        anchor_name: impl Into<Cow<'static, str>>,
        pairs: &[Paired],
    ) -> Self {
        let rounds = pairs.iter().map(|pair| pair.ours.len()).min().unwrap_or(0);
        let means: Vec<f64> = (0..rounds)
            .map(|round| {
                let logs = pairs.iter().filter_map(|pair| pair.ratio(round)).map(f64::ln);
                (logs.sum::<f64>() / count(pairs.len())).exp()
            })
            .collect();
        Self::paired(name, "x", Better::Lower, &means, anchor_name, &vec![1.0; rounds])
    }

    /// States the target.
    #[must_use]
    pub(crate) fn target(mut self, of: Of, target: f64) -> Self {
        let found = match of {
            Of::Ours => self.ours,
            Of::Ratio => self.ratio,
        };
        self.target = Some(target);
        self.target_of = Some(of);
        self.holds = found.map(|found| match self.better {
            Better::Lower => found <= target,
            Better::Higher => found >= target,
        });
        self
    }
}

/// Figures of the same rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paired {
    pub(crate) ours: Vec<f64>,
    pub(crate) anchor: Vec<f64>,
}

impl Paired {
    pub(crate) fn push(&mut self, ours: f64, anchor: f64) {
        self.ours.push(ours);
        self.anchor.push(anchor);
    }

    fn ratio(&self, round: usize) -> Option<f64> {
        Some(self.ours.get(round)? / self.anchor.get(round)?)
    }

    pub(crate) fn row(
        &self,
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        anchor: impl Into<Cow<'static, str>>,
    ) -> Row {
        Row::paired(name, unit, better, &self.ours, anchor, &self.anchor)
    }
}

/// A target that this program does not measure.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Unmeasured {
    pub(crate) target: &'static str,
    pub(crate) reason: &'static str,
}

/// All of one topic.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    commit: String,
    rows: Vec<Row>,
    unmeasured: Vec<Unmeasured>,
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>, unmeasured: &[Unmeasured]) -> Self {
        Self { machine: machine(), commit: commit(), rows, unmeasured: unmeasured.to_vec() }
    }

    pub(crate) fn print(&self, is_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if is_json {
            serde_json::to_writer_pretty(&mut out, self)?;
            return writeln!(out);
        }
        writeln!(out, "{}, commit {}", self.machine, self.commit)?;
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let heads = ["unit", "ours", "anchor", "ratio", "spread", "target", "holds"];
        let [unit, ours, anchor, ratio, spread, target, holds] = heads;
        writeln!(
            out,
            "{:width$}  {unit:8} {ours:>10} {anchor:>10} {ratio:>7} {spread:>6}  {target:>16} {holds:5}  anchor is",
            ""
        )?;
        for row in &self.rows {
            let sign = match row.better {
                Better::Lower => "<=",
                Better::Higher => ">=",
            };
            let target = match (row.target, row.target_of) {
                (Some(target), Some(Of::Ours)) => format!("ours {sign} {}", figure(target)),
                (Some(target), _) => format!("ratio {sign} {}", figure(target)),
                (None, _) => String::new(),
            };
            let holds = row.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
            writeln!(
                out,
                "{:width$}  {:8} {:>10} {:>10} {:>7} {:>5.0}%  {target:>16} {holds:5}  {}",
                row.name,
                row.unit,
                row.ours.map_or_else(String::new, figure),
                row.anchor.map_or_else(String::new, figure),
                row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
                row.spread * 100.0,
                row.anchor_name.as_deref().unwrap_or(""),
            )?;
        }
        for missing in &self.unmeasured {
            writeln!(out, "not measured: {}: {}", missing.target, missing.reason)?;
        }
        Ok(())
    }
}

fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The median; zero of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => at(odd / 2),
        even => f64::midpoint(at(even / 2 - 1), at(even / 2)),
    }
}

/// `(max - min) / median`.
fn spread(values: &[f64]) -> f64 {
    let max = values.iter().copied().fold(f64::MIN, f64::max);
    let min = values.iter().copied().fold(f64::MAX, f64::min);
    // Of nothing, or of what is the same each time, zero too.
    if max > min { (max - min) / median(values) } else { 0.0 }
}

/// A count as a figure; ours are far below 2^52.
pub(crate) fn count(value: usize) -> f64 {
    value as f64
}

/// Does `work` and yields the seconds of processor time it took, over all threads of this process:
/// what happens on a thread of its own counts, other processes do not.
pub(crate) fn cpu_seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = cpu();
    let done = work();
    (done, cpu().saturating_sub(before).as_secs_f64())
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Does `work` and yields the seconds it took on the wall clock.
pub(crate) fn wall_seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = now();
    let done = work();
    (done, before.elapsed().as_secs_f64())
}

/// Model and number of processors.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
    let models: Vec<String> =
        info.lines().filter(|line| line.starts_with("model name")).filter_map(field).collect();
    let model = models.first().map_or("unknown processor", String::as_str);
    format!("{model}, {} cores", models.len())
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.and_then(|bytes| String::from_utf8(bytes).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

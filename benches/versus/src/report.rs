//! Interleaved rounds, medians, the table and its JSON.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// One contender's job: does its share of the work and returns a checksum that all must share.
pub struct Contender<'a> {
    pub name: &'static str,
    pub job: Box<dyn FnMut(usize) -> u64 + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'static str, job: impl FnMut(usize) -> u64 + 'a) -> Self {
        Self {
            name,
            job: Box::new(job),
        }
    }
}

struct Row {
    work: String,
    unit: &'static str,
    cells: Vec<(&'static str, f64)>,
    bar: Option<(&'static str, f64)>,
}

pub struct Report {
    filter: Vec<String>,
    rounds: usize,
    list: bool,
    rows: Vec<Row>,
}

/// The contender whose ratio is computed: the first name.
pub const OURS: &str = "gufc";

impl Report {
    pub fn new(filter: Vec<String>, rounds: usize, list: bool) -> Self {
        Self {
            filter,
            rounds: rounds.max(1),
            list,
            rows: Vec::new(),
        }
    }

    /// Rounds that are measured of each work; one more warms up.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether any of these works is asked for; ask before building tables.
    pub fn wants(&self, work: &str) -> bool {
        if self.list {
            println!("{work}");
            return false;
        }
        self.filter.iter().all(|word| work.contains(word.as_str()))
    }

    /// Measures `work` and adds its row.
    ///
    /// `bar` is the peer and the ratio that gufc must not exceed.
    pub fn measure(
        &mut self,
        work: &str,
        operations: usize,
        bar: Option<(&'static str, f64)>,
        contenders: Vec<Contender<'_>>,
    ) {
        let cells = self.medians(work, operations, contenders);
        self.add(work, "ns", bar, cells);
    }

    /// Each round every contender does `operations`, timed; the medians of nanoseconds per operation.
    pub fn medians(
        &self,
        work: &str,
        operations: usize,
        mut contenders: Vec<Contender<'_>>,
    ) -> Vec<(&'static str, f64)> {
        let mut times = vec![Vec::new(); contenders.len()];
        for round in 0..=self.rounds {
            let mut answer = None;
            for (contender, times) in contenders.iter_mut().zip(&mut times) {
                let start = thread_time();
                let sum = (contender.job)(round);
                let time = (thread_time() - start).as_nanos() as f64 / operations as f64;
                // The first round warms up.
                if round > 0 {
                    times.push(time);
                }
                let expected = *answer.get_or_insert(sum);
                assert_eq!(sum, expected, "{work}: {} disagrees", contender.name);
            }
        }
        contenders
            .iter()
            .zip(times)
            .map(|(contender, times)| (contender.name, median(times)))
            .collect()
    }

    /// Adds a row that was measured elsewhere.
    pub fn add(
        &mut self,
        work: &str,
        unit: &'static str,
        bar: Option<(&'static str, f64)>,
        cells: Vec<(&'static str, f64)>,
    ) {
        let row = Row {
            work: work.to_owned(),
            unit,
            cells,
            bar,
        };
        println!("{}", row.line());
        self.rows.push(row);
    }

    pub fn finish(self, json: Option<&Path>) -> io::Result<()> {
        let missed: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.is_met() == Some(false))
            .collect();
        let judged = self.rows.iter().filter(|row| row.bar.is_some()).count();
        if judged > 0 {
            println!("\n{} of {judged} bars met; missed:", judged - missed.len());
            for row in missed {
                println!("  {}", row.line());
            }
        }
        if let Some(path) = json {
            let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
            std::fs::write(path, format!("[\n{}\n]\n", rows.join(",\n")))?;
        }
        Ok(())
    }
}

impl Row {
    fn value(&self, name: &str) -> Option<f64> {
        self.cells.iter().find(|(n, _)| *n == name).map(|&(_, v)| v)
    }

    fn is_met(&self) -> Option<bool> {
        let (peer, most) = self.bar?;
        Some(self.value(OURS)? <= most * self.value(peer)?)
    }

    fn line(&self) -> String {
        let mut line = format!("{:<44}", self.work);
        for (name, value) in &self.cells {
            write!(line, " {name} {value:.1}").unwrap();
        }
        write!(line, " {}", self.unit).unwrap();
        let ours = self.value(OURS).unwrap_or(f64::NAN);
        let ratios: Vec<_> = self
            .cells
            .iter()
            .filter(|(name, _)| *name != OURS)
            .map(|(name, value)| format!("{name} {:.2}", ours / value))
            .collect();
        write!(line, " | ratio {}", ratios.join(" ")).unwrap();
        match (self.bar, self.is_met()) {
            (Some((peer, most)), Some(met)) => {
                write!(
                    line,
                    " | {peer} <= {most} {}",
                    if met { "met" } else { "MISSED" }
                )
                .unwrap();
            }
            _ => {}
        }
        line
    }

    fn json(&self) -> String {
        let cells: Vec<_> = self
            .cells
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value:.3}"))
            .collect();
        let bar = match self.bar {
            Some((peer, most)) => format!(
                ", \"bar\": {{\"peer\": \"{peer}\", \"most\": {most}, \"met\": {}}}",
                self.is_met() == Some(true)
            ),
            None => String::new(),
        };
        format!(
            "  {{\"work\": \"{}\", \"unit\": \"{}\", \"values\": {{{}}}{bar}}}",
            self.work,
            self.unit,
            cells.join(", ")
        )
    }
}

/// Processor time of this thread: what other jobs on the machine take is not counted, what they do to the caches is.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing, and the clock exists on every system that this package supports.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

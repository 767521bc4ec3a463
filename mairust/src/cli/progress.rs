//! How far a command has come, and what it finds: a bar on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mairust_store::{Finding, Observer};

use super::output::{Failure, OutputFormat, print};

/// Shows progress on standard error and findings on standard output.
#[derive(Debug)]
pub(super) struct Console {
    format: OutputFormat,
    /// On a terminal.
    bar: Option<ProgressBar>,
    step: &'static str,
    done: u64,
    findings: u64,
    /// Standard output could not be written to.
    failure: Option<Failure>,
}

impl Console {
    /// With `Json`, what is found is an array that [`end_of_findings`](Self::end_of_findings) ends.
    pub(super) fn new(format: OutputFormat) -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::no_length);
        Self { format, bar, step: "", done: 0, findings: 0, failure: None }
    }

    /// How many findings there were.
    pub(super) fn findings(&self) -> u64 {
        self.findings
    }

    /// The last step has ended.
    pub(super) fn finish(&mut self) {
        self.end_step();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Ends the list of findings and prints what follows it: the fields of a JSON object, or a text.
    pub(super) fn end_of_findings(&mut self, text: &str, fields: &serde_json::Value) -> Result<(), Failure> {
        self.finish();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        match self.format {
            OutputFormat::Text => print(text),
            OutputFormat::Json => {
                let begin = if self.findings == 0 { "{\"findings\":[" } else { "" };
                let fields = fields.to_string();
                print(&format!("{begin}],{}", fields.strip_prefix('{').unwrap_or(&fields)))
            }
        }
    }

    fn end_step(&mut self) {
        if self.bar.is_none() && self.done > 0 {
            anstream::eprintln!("{}: {}", self.step, self.done);
        }
        self.done = 0;
    }

    fn show(&mut self, finding: &Finding) -> Result<(), Failure> {
        self.findings += 1;
        match self.format {
            OutputFormat::Text => print(&as_text(finding)),
            OutputFormat::Json => {
                let begin = if self.findings == 1 { "{\"findings\":[" } else { "," };
                print(&format!("{begin}{}", finding.to_json()))
            }
        }
    }
}

impl Observer for Console {
    fn begins(&mut self, step: &'static str, total: Option<u64>) {
        self.end_step();
        self.step = step;
        let Some(bar) = &self.bar else { return };
        bar.reset();
        let form = match total {
            Some(total) => {
                bar.set_length(total);
                "{msg:20} {bar:30} {human_pos} of {human_len}, {eta} left"
            }
            None => {
                bar.unset_length();
                "{msg:20} {spinner} {human_pos}"
            }
        };
        bar.set_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(step);
        bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn advances(&mut self, units: u64) {
        self.done += units;
        if let Some(bar) = &self.bar {
            bar.inc(units);
        }
    }

    fn finds(&mut self, finding: &Finding) {
        let shown = match self.bar.clone() {
            Some(bar) => bar.suspend(|| self.show(finding)),
            None => self.show(finding),
        };
        if let Err(failure) = shown {
            self.failure.get_or_insert(failure);
        }
    }
}

fn as_text(finding: &Finding) -> String {
    let mut text = finding.fault.as_str().to_owned();
    if let Some(message) = finding.message {
        text.push_str(&format!("  message {message}"));
    }
    if let Some((kind, name)) = &finding.about {
        text.push_str(&format!("  {kind} {name}"));
    }
    text.push_str(&format!("  {}", finding.detail));
    if finding.repaired {
        text.push_str("  (repaired)");
    }
    text
}

//! `croupier check --connect`: a line for each server that is configured, and what to do where all is not well.

use std::fmt;
use std::fs;

use croupier::config::{ClusterConfig, Config, shown_size};
use croupier::dial::{self, Accepted, Dialled};
use croupier::probe::Grade;
use x509_parser::pem::Pem;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::quantity::counted;

/// A certificate that is good for no longer than this is told as a warning.
const DAYS_LEFT_MIN: i64 = 30;
const DAY_S: i64 = 24 * 3600;
/// Characters of what a server calls itself that are shown.
const NAME_CHARS_MAX: usize = 64;

/// What was found about each server, and about each cluster as a whole.
///
/// Displayed as a line for each server, with what there is to say against it below.
#[derive(Debug)]
pub(crate) struct ServersChecked {
    findings: Vec<Finding>,
    servers: usize,
    unusable: usize,
}

#[derive(Debug, PartialEq)]
struct Finding {
    grade: Grade,
    /// A cluster, and mostly a server of it.
    subject: String,
    found: String,
    warnings: Vec<String>,
}

impl ServersChecked {
    /// Dials all of them.
    pub(crate) fn of(config: &Config) -> croupier::Result<ServersChecked> {
        Ok(Self::judge(config, &dial::servers(config)?, ASN1Time::now()))
    }

    fn judge(config: &Config, dialled: &[Dialled], now: ASN1Time) -> ServersChecked {
        let mut findings = Vec::new();
        for cluster in &config.clusters {
            let of_cluster = || dialled.iter().filter(|one| one.cluster == *cluster.name.as_str());
            findings.extend(of_cluster().map(|one| judge_server(config, cluster, one, now)));
            findings.extend(judge_own_certificate(cluster, now));
            findings.extend(judge_together(cluster, of_cluster()));
        }
        let unusable = dialled.iter().filter(|one| one.outcome.is_err()).count();
        ServersChecked { findings, servers: dialled.len(), unusable }
    }

    /// Why a node could not run so, if it could not.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let failed = self.findings.iter().filter(|finding| finding.grade == Grade::Fail).count();
        match (failed, self.unusable) {
            (0, _) => None,
            (_, 0) => Some("a certificate of this node has expired".to_owned()),
            (_, unusable) => Some(format!("{unusable} of {} servers cannot be used", self.servers)),
        }
    }
}

impl fmt::Display for ServersChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
        for Finding { grade, subject, found, warnings } in &self.findings {
            writeln!(f, "{grade:<4}  {subject:<width$}  {found}")?;
            for warning in warnings {
                writeln!(f, "{:6}{:width$}  {warning}", "", "")?;
            }
        }
        Ok(())
    }
}

fn judge_server(config: &Config, cluster: &ClusterConfig, dialled: &Dialled, now: ASN1Time) -> Finding {
    let subject = format!("{} {}", cluster.name, dialled.server);
    let accepted = match &dialled.outcome {
        Ok(accepted) => accepted,
        Err(error) => {
            // Some of it may be what a stranger said.
            let found = error.to_string().replace(char::is_control, " ");
            return Finding { grade: Grade::Fail, subject, found, warnings: Vec::new() };
        }
    };
    let mut warnings = Vec::new();
    let allowed = config.limits.max_payload;
    if accepted.max_payload < allowed {
        warnings.push(format!(
            "it takes payloads up to {}, and limits.max_payload is {}: larger ones are refused to their publisher",
            shown_size(accepted.max_payload),
            shown_size(allowed),
        ));
    }
    if !accepted.headers {
        warnings.push("it relays no headers: what is published with headers is lost".to_owned());
    }
    if accepted.is_lame_duck {
        warnings.push("it is in lame duck mode, about to go away: links will leave it".to_owned());
    }
    let mut found = facts(cluster, accepted);
    if let Some(tls) = &accepted.tls {
        found += &format!(", {}", tls.version);
        let shown = tls.certificates.iter().enumerate();
        for (position, certificate) in shown {
            let whose =
                if position == 0 { "its certificate" } else { "an issuer's certificate that it shows" };
            match good_until(certificate) {
                Ok(until) => {
                    if position == 0 {
                        found += &format!(", certificate good until {}", day(until));
                    }
                    warnings.extend(soon_over(whose, until, now));
                }
                Err(reason) => warnings.push(format!("{whose} cannot be read: {reason}")),
            }
        }
    } else {
        found += ", no TLS";
    }
    let grade = if warnings.is_empty() { Grade::Ok } else { Grade::Warn };
    Finding { grade, subject, found, warnings }
}

fn facts(cluster: &ClusterConfig, accepted: &Accepted) -> String {
    let has_url_credentials =
        cluster.urls().is_ok_and(|urls| urls.iter().any(|url| url.credentials.is_some()));
    let credentials = match (accepted.wants_credentials, cluster.auth.is_some() || has_url_credentials) {
        (true, _) => "credentials accepted",
        (false, true) => "credentials not asked for",
        (false, false) => "no credentials",
    };
    format!(
        "nats-server {} in {:.1} ms, {credentials}, max_payload {}",
        plain(&accepted.version),
        accepted.took.as_secs_f64() * 1e3,
        shown_size(accepted.max_payload),
    )
}

/// What this node shows to servers that ask for a certificate.
fn judge_own_certificate(cluster: &ClusterConfig, now: ASN1Time) -> Option<Finding> {
    let path = cluster.tls.as_ref()?.cert_file.as_ref()?;
    let subject = format!("{} tls.cert_file", cluster.name);
    let first = fs::read(path).ok().and_then(|text| Pem::iter_from_buffer(&text).next()?.ok())?;
    let until = good_until(&first.contents).ok()?;
    let left_s = until.timestamp() - now.timestamp();
    let found = format!("this node's certificate good until {}", day(until));
    let (grade, warnings) = match soon_over("this node's certificate", until, now) {
        Some(warning) if left_s <= 0 => (Grade::Fail, vec![warning]),
        Some(warning) => (Grade::Warn, vec![warning]),
        None => (Grade::Ok, Vec::new()),
    };
    Some(Finding { grade, subject, found, warnings })
}

/// Servers that are not connected with each other make one cluster of the ring into several, and messages get lost.
fn judge_together<'a>(
    cluster: &ClusterConfig,
    dialled: impl Iterator<Item = &'a Dialled>,
) -> Option<Finding> {
    let mut seen: Vec<(&Accepted, &Dialled)> = Vec::new();
    for one in dialled {
        if let Ok(accepted) = &one.outcome {
            let is_of_one = |known: &Accepted| match &accepted.cluster {
                Some(_) => known.cluster == accepted.cluster,
                None => known.id == accepted.id,
            };
            if !seen.iter().any(|(known, _)| is_of_one(known)) {
                seen.push((accepted, one));
            }
        }
    }
    if seen.len() < 2 {
        return None;
    }
    let said = |(accepted, dialled): &(&Accepted, &Dialled)| match &accepted.cluster {
        Some(name) => format!("{} is in \"{}\"", dialled.server, plain(name)),
        None => format!("{} stands alone", dialled.server),
    };
    Some(Finding {
        grade: Grade::Warn,
        subject: cluster.name.clone(),
        found: format!(
            "its servers are not of one NATS cluster: {}",
            seen.iter().map(said).collect::<Vec<_>>().join(", ")
        ),
        warnings: vec![
            "a message reaches only those who are connected to the same; make it one cluster, or write each as \
             [[clusters]] of its own"
                .to_owned(),
        ],
    })
}

fn good_until(certificate: &[u8]) -> Result<ASN1Time, String> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed.validity().not_after),
        Err(error) => Err(error.to_string()),
    }
}

fn soon_over(whose: &str, until: ASN1Time, now: ASN1Time) -> Option<String> {
    let left_s = until.timestamp() - now.timestamp();
    let days = left_s / DAY_S;
    if left_s <= 0 {
        Some(format!("{whose} has expired on {}: renew it", day(until)))
    } else if days < DAYS_LEFT_MIN {
        Some(format!("{whose} is good for less than {} more: renew it", counted(days + 1, "day")))
    } else {
        None
    }
}

fn day(time: ASN1Time) -> String {
    let day = time.to_datetime().date();
    format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day())
}

/// What a peer said, so that it can do nothing to a terminal.
fn plain(said: &str) -> String {
    said.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect()
}

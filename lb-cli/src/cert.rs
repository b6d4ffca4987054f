//! `lb cert`: the cluster's authority and the certificates of its nodes.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tokio::NodeId;
use lb_tokio::identity::{ClusterCa, ClusterName};

use crate::cli::CertArgs;
use crate::units::plural;

/// Most certificates made at once.
const NODES_MAX: usize = 10_000;

/// A set of node ids as written on the command line: `1,2,3`, `1-5`, `1-3,9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids(BTreeSet<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| format!("'{part}' is neither an id nor a range; write it like 1,2,3 or 1-5");
        let number = |text: &str, part: &str| text.trim().parse::<u32>().map_err(|_| wrong(part));
        let mut ids = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first, part)?, number(last, part)?),
                None => (number(part, part)?, number(part, part)?),
            };
            if first > last {
                return Err(format!(
                    "the range {part} ends before it begins; write it as {last}-{first}"
                ));
            }
            let room = NODES_MAX - ids.len();
            ids.extend((first..=last).take(room.saturating_add(1)));
            if ids.len() > NODES_MAX {
                return Err(format!("at most {NODES_MAX} certificates are made at once"));
            }
        }
        Ok(Self(ids))
    }
}

pub(crate) fn run(args: &CertArgs, out: &mut impl Write) -> Result<()> {
    let cluster: ClusterName = args.cluster.parse().context("--cluster")?;
    let dir = &args.dir;
    let none = BTreeSet::new();
    let ids = args.nodes.as_ref().map_or(&none, |ids| &ids.0);
    refuse_existing(dir, ids)?;

    let ca = match authority(dir, &cluster)? {
        Some(ca) if ids.is_empty() => bail!(
            "{} has the authority of cluster {} already; to make certificates of nodes, add --nodes 1-3",
            dir.display(),
            ca.cluster()
        ),
        Some(ca) => ca,
        None => {
            let ca = ClusterCa::generate(&cluster)?;
            ca.write_to(dir)?;
            writeln!(out, "authority of cluster {cluster}:")?;
            writeln!(out, "  {}", dir.join("ca.pem").display())?;
            writeln!(
                out,
                "  {}  (secret; keep it off the nodes)",
                dir.join("ca.key").display()
            )?;
            ca
        }
    };
    if ids.is_empty() {
        return Ok(());
    }
    let validity = Duration::from_secs(args.days * 86_400);
    writeln!(
        out,
        "{}, valid for {}:",
        plural(ids.len() as u64, "node"),
        plural(args.days, "day")
    )?;
    for &id in ids {
        ca.issue(NodeId::new(id), validity)?.write_to(dir)?;
        let pair = dir.join(format!("node-{id}"));
        writeln!(out, "  {0}.pem  {0}.key", pair.display())?;
    }
    writeln!(out, "node N needs ca.pem, node-N.pem and node-N.key")?;
    Ok(())
}

/// Nothing is written unless all of it can be.
fn refuse_existing(dir: &Path, ids: &BTreeSet<u32>) -> Result<()> {
    let there: Vec<String> = ids
        .iter()
        .flat_map(|id| [format!("node-{id}.pem"), format!("node-{id}.key")])
        .filter(|name| dir.join(name).symlink_metadata().is_ok())
        .collect();
    let Some(first) = there.first() else {
        return Ok(());
    };
    let more = match there.len() {
        1 => String::new(),
        n => format!(" (and {})", plural(n as u64 - 1, "other file")),
    };
    bail!(
        "{}{more} exists and is never overwritten; to replace a certificate, move the old files away first, \
         otherwise leave the id out of --nodes",
        dir.join(first).display()
    );
}

/// The authority in `dir`, if there is one.
fn authority(dir: &Path, cluster: &ClusterName) -> Result<Option<ClusterCa>> {
    let there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    match (there("ca.pem"), there("ca.key")) {
        (false, false) => return Ok(None),
        (true, true) => {}
        (true, false) => bail!(
            "{0} has ca.pem but not ca.key: certificates are made where the authority's key is kept; \
             copy ca.key to {0}, or choose another directory for a new authority",
            dir.display()
        ),
        (false, true) => bail!(
            "{} has ca.key but not ca.pem; put the ca.pem back that was written together with it",
            dir.display()
        ),
    }
    let ca = ClusterCa::read_from(dir)?;
    if ca.cluster() != cluster {
        bail!(
            "{} has the authority of cluster {}, not of {cluster}; use one directory per cluster",
            dir.display(),
            ca.cluster()
        );
    }
    Ok(Some(ca))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::temp::TempDir;

    #[test]
    fn ids_are_read() {
        let ids = |text: &str| {
            text.parse::<Ids>()
                .map(|ids| ids.0.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(ids("1,2,3"), Ok(vec![1, 2, 3]));
        assert_eq!(ids("1-5"), Ok(vec![1, 2, 3, 4, 5]));
        assert_eq!(ids("9, 1-3,2"), Ok(vec![1, 2, 3, 9]));
        assert_eq!(ids("4294967295"), Ok(vec![u32::MAX]));
        assert_eq!(ids("1-10000").unwrap().len(), 10_000);
        for (text, part) in [
            ("", "''"),
            ("1,", "''"),
            ("a", "'a'"),
            ("1-", "'1-'"),
            ("-1", "'-1'"),
            ("1-2-3", "'1-2-3'"),
            ("4294967296", "'4294967296'"),
            ("5-1", "1-5"),
            ("1-10001", "at most 10000"),
            ("0-4294967295", "at most 10000"),
        ] {
            let error = ids(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn cert(cluster: &str, dir: &Path, nodes: Option<&str>) -> Result<String, String> {
        let args = CertArgs {
            cluster: cluster.to_owned(),
            dir: dir.to_owned(),
            nodes: nodes.map(|text| text.parse().unwrap()),
            days: 30,
        };
        let mut out = Vec::new();
        match run(&args, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn makes_reuses_and_refuses() {
        let temp = TempDir::new("lb-cert-test").unwrap();
        let dir: PathBuf = temp.path().join("new/certs");
        let text = cert("lab", &dir, Some("1-2")).unwrap();
        assert!(text.contains("ca.key") && text.contains("node-2.pem"), "{text}");
        let ca = fs::read(dir.join("ca.pem")).unwrap();

        let text = cert("lab", &dir, Some("3")).unwrap();
        assert!(!text.contains("ca.key  "), "{text}");
        assert_eq!(fs::read(dir.join("ca.pem")).unwrap(), ca);
        for id in 1..=3 {
            lb_tokio::identity::NodeIdentity::read_from(&dir, NodeId::new(id)).unwrap();
        }

        let error = cert("lab", &dir, Some("2-5")).unwrap_err();
        assert!(error.contains("node-2.pem (and 3 other files) exists"), "{error}");
        assert!(!dir.join("node-5.pem").exists(), "half of it was written");
        let error = cert("lab", &dir, None).unwrap_err();
        assert!(error.contains("--nodes"), "{error}");
        let error = cert("other", &dir, Some("7")).unwrap_err();
        assert!(error.contains("cluster lab, not of other"), "{error}");
        let error = cert("La b", &dir, Some("7")).unwrap_err();
        assert!(error.contains("--cluster"), "{error}");
        fs::remove_file(dir.join("ca.key")).unwrap();
        let error = cert("lab", &dir, Some("7")).unwrap_err();
        assert!(error.contains("not ca.key"), "{error}");
    }
}

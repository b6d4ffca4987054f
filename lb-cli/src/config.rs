//! Settings of `lb node`: a TOML file, flags over it, and what makes sense together.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lb_tokio::core::health::TimersError;
use lb_tokio::{NodeId, Timers};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::cli::{NodeArgs, TimerArgs};
use crate::units::{exact, parse_duration};

const CAPACITY_DEFAULT: u16 = 256;

/// Everything `lb node` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) id: NodeId,
    pub(crate) dir: PathBuf,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) seeds: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) capacity: u16,
    pub(crate) edges: Option<EdgeSettings>,
    pub(crate) timers: Timers,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) epoch: Option<u32>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) exit_with_stdin: bool,
}

/// Where it listens for edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EdgeSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) keys: PathBuf,
    pub(crate) advertise: Option<SocketAddr>,
}

impl Settings {
    /// Reads the file, if one is named, and puts the flags over it.
    pub(crate) fn from_args(args: NodeArgs) -> Result<Self> {
        let file = match &args.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the settings file {}", path.display()))?;
                File::parse(path, text)?
            }
            None => File::default(),
        };
        file.under(args)
    }
}

/// The settings file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Schema {
    id: Option<u32>,
    dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    #[serde(default)]
    seeds: Vec<String>,
    capacity: Option<Positive<u16>>,
    edge_listen: Option<SocketAddr>,
    edge_keys: Option<PathBuf>,
    edge_advertise: Option<SocketAddr>,
    key_file: Option<PathBuf>,
    epoch: Option<Positive<u32>>,
    state_dir: Option<PathBuf>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    timers: TimerSchema,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimerSchema {
    heartbeat: Option<Spanned<Human>>,
    ttl: Option<Spanned<Human>>,
    stale: Option<Spanned<Human>>,
    failed: Option<Spanned<Human>>,
}

/// A duration written like `5s`.
#[derive(Debug)]
struct Human(Duration);

impl<'de> Deserialize<'de> for Human {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Human;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, like \"5s\" or \"200ms\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Human, E> {
                parse_duration(text).map(Human).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A number that is not zero.
#[derive(Debug)]
struct Positive<T>(T);

impl<'de, T: Deserialize<'de> + Default + PartialEq> Deserialize<'de> for Positive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = T::deserialize(deserializer)?;
        if number == T::default() {
            return Err(serde::de::Error::custom("must be at least 1"));
        }
        Ok(Self(number))
    }
}

/// A parsed file, with what is needed to point into it.
#[derive(Debug, Default)]
struct File {
    path: PathBuf,
    text: String,
    schema: Schema,
}

impl File {
    fn parse(path: &Path, text: String) -> Result<Self> {
        match toml::from_str(&text) {
            Ok(schema) => Ok(Self {
                path: path.to_owned(),
                text,
                schema,
            }),
            Err(error) => Err(match error.span() {
                Some(span) => anyhow!("{}: {}", place(path, &text, &span), error.message().trim_end()),
                None => anyhow!("{}: {}", path.display(), error.message().trim_end()),
            }),
        }
    }

    /// The settings, with the flags over the file.
    fn under(self, args: NodeArgs) -> Result<Settings> {
        let timers = self.timers(&args.timers)?;
        let base = self.path.parent().unwrap_or(Path::new("")).to_owned();
        let from_file = |path: Option<PathBuf>| path.map(|path| base.join(path));
        let file = self.schema;
        let hint = if args.config.is_some() {
            "in the file"
        } else {
            "in a file for --config"
        };
        let Some(id) = args.id.or(file.id) else {
            bail!("the node has no id: give --id N, or `id = N` {hint}");
        };
        let Some(dir) = args.dir.or(from_file(file.dir)) else {
            bail!("the node has no certificate: give --dir DIR, or `dir = \"DIR\"` {hint} (see `lb cert`)");
        };
        let edges = edges(
            args.edge_listen.or(file.edge_listen),
            args.edge_keys.or(from_file(file.edge_keys)),
            args.edge_advertise.or(file.edge_advertise),
        )?;
        let mut tags: Vec<(String, String)> = file.tags.into_iter().collect();
        for (key, value) in args.tags {
            tags.retain(|(known, _)| *known != key);
            tags.push((key, value));
        }
        if !tags.iter().any(|(key, _)| key == "role") {
            tags.insert(0, ("role".to_owned(), "worker".to_owned()));
        }
        Ok(Settings {
            id: NodeId::new(id),
            dir,
            listen: args.listen.or(file.listen),
            advertise: args.advertise.or(file.advertise),
            seeds: if args.seeds.is_empty() {
                file.seeds
            } else {
                args.seeds
            },
            tags,
            capacity: args
                .capacity
                .or(file.capacity.map(|capacity| capacity.0))
                .unwrap_or(CAPACITY_DEFAULT),
            edges,
            timers,
            key_file: args.key_file.or(from_file(file.key_file)),
            epoch: args.epoch.or(file.epoch.map(|epoch| epoch.0)),
            state_dir: args.state_dir.or(from_file(file.state_dir)),
            exit_with_stdin: args.exit_with_stdin,
        })
    }

    fn timers(&self, flags: &TimerArgs) -> Result<Timers> {
        let file = &self.schema.timers;
        let given = |flag: Option<Duration>, file: &Option<Spanned<Human>>| {
            flag.or(file.as_ref().map(|human| human.get_ref().0))
        };
        let values = TimerArgs {
            heartbeat: given(flags.heartbeat, &file.heartbeat),
            ttl: given(flags.ttl, &file.ttl),
            stale: given(flags.stale, &file.stale),
            failed: given(flags.failed, &file.failed),
        };
        values.resolve().map_err(|(error, in_all)| {
            let (flag, span) = match error.field() {
                "heartbeat" => (flags.heartbeat, &file.heartbeat),
                "ttl" => (flags.ttl, &file.ttl),
                "stale" => (flags.stale, &file.stale),
                _ => (flags.failed, &file.failed),
            };
            let origin = match (flag, span) {
                (None, Some(span)) => place(&self.path, &self.text, &span.span()),
                _ => format!("--{}", error.field()),
            };
            anyhow!("{origin}: {error}; together they are {in_all}")
        })
    }
}

fn edges(
    listen: Option<SocketAddr>,
    keys: Option<PathBuf>,
    advertise: Option<SocketAddr>,
) -> Result<Option<EdgeSettings>> {
    match (listen, keys, advertise) {
        (Some(listen), Some(keys), advertise) => Ok(Some(EdgeSettings {
            listen,
            keys,
            advertise,
        })),
        (None, None, None) => Ok(None),
        (Some(_), None, _) => {
            bail!("--edge-listen needs the devices' keys: add --edge-keys FILE (see `lb device`)")
        }
        (None, _, _) => bail!("no address to listen on for edges: add --edge-listen IP:PORT"),
    }
}

impl TimerArgs {
    /// The time-outs; those not given follow the heartbeat. On failure, also all of them as text.
    fn resolve(&self) -> Result<Timers, (TimersError, String)> {
        let heartbeat = self.heartbeat.unwrap_or(Timers::default().heartbeat().into());
        let [ttl, stale, failed] = [(self.ttl, 2), (self.stale, 3), (self.failed, 4)]
            .map(|(given, times)| given.unwrap_or(heartbeat.saturating_mul(times)));
        Timers::new(heartbeat.into(), ttl.into(), stale.into(), failed.into()).map_err(|error| {
            let text = format!(
                "heartbeat {}, ttl {}, stale {}, failed {}",
                exact(heartbeat),
                exact(ttl),
                exact(stale),
                exact(failed)
            );
            (error, text)
        })
    }
}

/// The file, line and field at a place in a file, for error messages.
fn place(path: &Path, text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or("");
    let key = line
        .split_once('=')
        .map(|(key, _)| key.trim())
        .unwrap_or_default();
    let table = text
        .lines()
        .take(number)
        .filter_map(|line| line.trim().strip_prefix('[')?.split(']').next())
        .last();
    let field = match table {
        _ if key.is_empty() => String::new(),
        Some(table) => format!(", {table}.{key}"),
        None => format!(", {key}"),
    };
    format!("{}, line {number}{field}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, flags: &str) -> Result<Settings, String> {
        use clap::Parser;
        let words = flags.split_whitespace();
        let cli = crate::cli::Cli::parse_from(["lb", "node"].into_iter().chain(words));
        let crate::cli::Command::Node(args) = cli.command else {
            panic!("not a node");
        };
        File::parse(Path::new("/etc/lb/node.toml"), text.to_owned())
            .and_then(|file| file.under(*args))
            .map_err(|error| format!("{error:#}"))
    }

    const FULL: &str = r#"
        id = 1
        dir = "certs"
        listen = "0.0.0.0:7401"
        advertise = "10.0.0.1:7401"
        seeds = ["10.0.0.2:7401", "other:7401"]
        capacity = 64
        edge_listen = "0.0.0.0:7500"
        edge_keys = "devices.toml"
        edge_advertise = "10.0.0.1:7500"
        key_file = "/keys/demo.key"
        epoch = 5
        state_dir = "state"
        [tags]
        zone = "eu-1"
        label = "big"
        [timers]
        heartbeat = "1s"
        failed = "10s"
    "#;

    #[test]
    fn a_file_with_everything() {
        let found = settings(FULL, "").unwrap();
        let s = lb_tokio::core::Duration::from_secs;
        assert_eq!(
            found,
            Settings {
                id: NodeId::new(1),
                dir: "/etc/lb/certs".into(),
                listen: Some("0.0.0.0:7401".parse().unwrap()),
                advertise: Some("10.0.0.1:7401".parse().unwrap()),
                seeds: vec!["10.0.0.2:7401".to_owned(), "other:7401".to_owned()],
                tags: [("role", "worker"), ("label", "big"), ("zone", "eu-1")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                capacity: 64,
                edges: Some(EdgeSettings {
                    listen: "0.0.0.0:7500".parse().unwrap(),
                    keys: "/etc/lb/devices.toml".into(),
                    advertise: Some("10.0.0.1:7500".parse().unwrap()),
                }),
                timers: Timers::new(s(1), s(2), s(3), s(10)).unwrap(),
                key_file: Some("/keys/demo.key".into()),
                epoch: Some(5),
                state_dir: Some("/etc/lb/state".into()),
                exit_with_stdin: false,
            }
        );
    }

    #[test]
    fn flags_override_the_file() {
        let found = settings(
            FULL,
            "--id 2 --dir here --seed a:1 --tag zone=x --tag role=db --ttl 4s --stale 5s --capacity 7",
        )
        .unwrap();
        assert_eq!((found.id, found.capacity), (NodeId::new(2), 7));
        assert_eq!(found.dir, Path::new("here"));
        assert_eq!(found.seeds, ["a:1"]);
        let tags: Vec<String> = found.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(tags, ["label=big", "zone=x", "role=db"]);
        assert_eq!(found.timers.ttl(), lb_tokio::core::Duration::from_secs(4));
        assert_eq!(found.timers.failed(), lb_tokio::core::Duration::from_secs(10));
    }

    #[test]
    fn time_outs_follow_the_heartbeat() {
        let found = settings("id = 1\ndir = 'd'", "--heartbeat 200ms").unwrap();
        assert_eq!(found.timers.failed(), lb_tokio::core::Duration::from_millis(800));
        let found = settings("id = 1\ndir = 'd'", "").unwrap();
        assert_eq!(found.timers, Timers::default());
    }

    #[test]
    fn errors_name_file_line_and_field() {
        for (text, flags, parts) in [
            (
                "id = 1\nlisen = 'x'",
                "",
                &["node.toml, line 2, lisen", "unknown field", "`listen`"][..],
            ),
            ("id = 'one'", "", &["line 1, id", "u32"]),
            (
                "id = 1\nlisten = 'localhost'",
                "",
                &["line 2, listen", "socket address"],
            ),
            ("capacity = 0", "", &["line 1, capacity", "at least 1"]),
            ("capacity = 70000", "", &["line 1, capacity", "u16"]),
            ("[timers]\nttl = 5", "", &["line 2, timers.ttl", "\"5s\""]),
            ("[timers]\nttl = '5'", "", &["line 2, timers.ttl", "write 5s"]),
            (
                "[timers]\ntls = '5s'",
                "",
                &["line 2, timers.tls", "unknown field"],
            ),
            ("[tags]\nzone = 1", "", &["line 2, tags.zone", "string"]),
            ("id = 1\nid = 2", "", &["line 2, id", "duplicate"]),
            ("id = ", "", &["line 1, id"]),
            (
                "id = 1\ndir = 'd'\n[timers]\nheartbeat = '5s'\nttl = '4s'",
                "",
                &[
                    "line 5, timers.ttl",
                    "at least the heartbeat",
                    "heartbeat 5s, ttl 4s, stale 15s, failed 20s",
                ],
            ),
            (
                "[timers]\nttl = '9s'",
                "--ttl 1s",
                &["--ttl:", "at least the heartbeat"],
            ),
            ("", "--ttl 1m", &["--stale:", "ttl 60s, stale 15s"]),
            (
                "id = 1\ndir = 'd'\nedge_listen = '0.0.0.0:1'",
                "",
                &["--edge-keys FILE"],
            ),
            ("id = 1\ndir = 'd'", "--edge-keys f", &["--edge-listen IP:PORT"]),
            ("", "--heartbeat 0s", &["--heartbeat:", "1 ms"]),
            ("", "", &["--id N"]),
            ("id = 1", "", &["--dir DIR"]),
        ] {
            let error = settings(text, flags).unwrap_err();
            for part in parts {
                assert!(
                    error.contains(part),
                    "{text:?} {flags:?}: no {part:?} in {error:?}"
                );
            }
        }
    }
}

//! `lb device`: the keys of edges.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lb_tokio::edge::EdgeKeyFile;
use lb_tokio::identity::ClusterName;

use crate::cli::DeviceNewArgs;
use crate::crypto::{random_key, to_hex};

pub(crate) fn new(args: &DeviceNewArgs, out: &mut impl Write) -> Result<()> {
    let path = &args.keys;
    let key = to_hex(&random_key()?);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if !text.is_empty() {
        refuse_known(path, args.id)?;
    }
    write_whole(path, &(separated(text) + &entry(args, &key)))?;
    writeln!(out, "device {} of {}", args.id, path.display())?;
    writeln!(out, "key {key}")?;
    writeln!(
        out,
        "give the key to this device alone; whoever has it is the device"
    )?;
    Ok(())
}

/// The file must be right before it is added to, and not have the device.
fn refuse_known(path: &Path, id: u32) -> Result<()> {
    // Which cluster the keys are for does not matter here.
    let keys = EdgeKeyFile::open(path, &ClusterName::new("any")?)?;
    if lb_tokio::edge::EdgeKeys::keys(&keys, id)[0].is_some() {
        bail!(
            "{} has device {id} already; to change its key, rename `key` to `former` there and add a new `key`",
            path.display()
        );
    }
    Ok(())
}

fn separated(mut text: String) -> String {
    if !text.is_empty() {
        text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
    }
    text
}

fn entry(args: &DeviceNewArgs, key: &str) -> String {
    let mut entry = format!("[[device]]\nid = {}\nkey = \"{key}\"\n", args.id);
    if let Some(name) = &args.name {
        entry.push_str("name = ");
        entry.push_str(&toml_string(name));
        entry.push('\n');
    }
    entry
}

/// A basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes the file for its owner alone, whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
    };
    write().with_context(|| format!("cannot write {} by way of {}", path.display(), draft.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempDir;

    fn add(path: &Path, id: u32, name: Option<&str>) -> Result<String> {
        let args = DeviceNewArgs {
            keys: path.to_owned(),
            id,
            name: name.map(str::to_owned),
        };
        let mut out = Vec::new();
        new(&args, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn devices_are_added_one_by_one() {
        use lb_tokio::edge::EdgeKeys;
        let temp = TempDir::new("lb-device-test").unwrap();
        let path = temp.path().join("devices.toml");
        let first = add(&path, 7, Some("north \"\\\n gate")).unwrap();
        add(&path, 8, None).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let key = first.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
        assert!(key.len() == 64 && text.contains(key));
        let keys = EdgeKeyFile::open(&path, &ClusterName::new("a").unwrap()).unwrap();
        assert_eq!(keys.devices(), 2);
        assert_eq!(keys.name(7).as_deref(), Some("north \"\\\n gate"));

        let error = add(&path, 7, None).unwrap_err().to_string();
        assert!(
            error.contains("device 7 already") && error.contains("`former`"),
            "{error}"
        );
        fs::write(&path, "[[device]]\nid = 1\n").unwrap();
        let error = add(&path, 9, None).unwrap_err().to_string();
        assert!(error.contains("missing field `key`"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[[device]]\nid = 1\n");
    }
}

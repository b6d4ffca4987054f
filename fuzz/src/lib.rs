//! What the fuzz targets do with their bytes. Each target is a function here, so that the corpora are replayed as
//! ordinary tests too.
//!
//! `wire` takes its bytes as they are. The others take them as a script ([`script`]): what happens, to whom, in
//! which order. A script that ends early ends well.

pub mod edge;
pub mod gate;
pub mod listener;
pub mod script;
pub mod seal;
pub mod wire;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(corpus)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no corpus for {target}");
        for file in files {
            println!("{}", file.display());
            run(&fs::read(&file).unwrap());
        }
    }

    #[test]
    fn wire() {
        replay("wire", super::wire::run);
    }

    #[test]
    fn seal() {
        replay("seal", super::seal::run);
    }

    #[test]
    fn edge() {
        replay("edge", super::edge::run);
    }

    #[test]
    fn gate() {
        replay("gate", super::gate::run);
    }

    #[test]
    fn listener() {
        replay("listener", super::listener::run);
    }
}

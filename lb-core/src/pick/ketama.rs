//! Ketama: the ring of nginx's `hash … consistent`.

use super::affine::{self, Affine, Census, Progress, listed};
use super::crc32::Crc32;
use super::double::Double;
use super::halves::{Halves, MemoryTooSmall};
use super::points::{self, BATCH, Points, PointsMut, Tie, kept};
use super::{Pool, Strategy, Tabled};
use crate::rng::Rng;

/// Points for each unit of weight.
const POINTS: u32 = 160;

/// Sends equal keys to the same slot as nginx's `hash $key consistent` does, in front of the same servers.
///
/// Names are servers as nginx has them, `address:port`; a server has 160 points for each unit of weight. Only the
/// lower 32 bits of a key are used: to agree with nginx, let it be [`crc32`](super::crc32) of the key's text; else
/// any hash will do, [`key_hash`](super::key_hash) for one. A refused home falls to the slots of the next points, as
/// nginx tries again, at most 256; then the candidates' order by rendezvous decides.
///
/// Choose it to share sessions or caches with nginx (or with Cache::Memcached::Fast and pingora, which have the same points).
/// `Maglev` is even and faster; `Ring` has Envoy's points. Shares are as uneven as a ring's.
///
/// nginx sends requests with an empty key in rotation; this does not. Where points of two servers coincide (1 in 1300 rings of 16 servers), nginx keeps either; here it is that of the
/// lower name. Should the memory not hold 160 points for each unit of weight, there are fewer for all,
/// and choices are not nginx's. For more candidates than `slots` there is no table, and picks scan all candidates' names.
///
/// Source: nginx, `ngx_http_upstream_hash_module.c`; choices were compared with nginx 1.22.1.
///
/// ```
/// use lb_core::pick::{Ketama, SlicePool, Strategy, Tabled, crc32};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     names: &[b"10.0.0.1:80", b"10.0.0.2:80", b"10.0.0.3:80"],
///     ..SlicePool::default()
/// };
/// let mut ketama = Ketama::new(vec![0; Ketama::words(3, 3)], 3).unwrap();
/// while !ketama.update(&pool, 100) {}
/// let key = u64::from(crc32(b"/index.html"));
/// assert!(ketama.pick(&pool, Some(key), &mut Sfc32::new(1)).is_some());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ketama<S> {
    halves: Halves<S>,
    slots: usize,
    /// The weights of the table in use, see [`Affine::total_weight`]; `None`: there is no table.
    total: Option<(u32, bool)>,
    made_of: Option<u32>,
    build: Option<Build>,
}

#[derive(Clone, Copy, Debug)]
struct Build {
    version: u32,
    census: Census,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Census,
    Clear(usize),
    /// The candidate whose turn it is, and what of its points is made.
    Fill(usize, Option<Chain>),
}

/// Points of a server: each is the CRC of its name and of the point before.
#[derive(Clone, Copy, Debug)]
struct Chain {
    server: Crc32,
    former: u32,
    left: u32,
}

impl Ketama<()> {
    /// Words of memory for at most `slots` candidates whose weights add up to `weight`.
    #[must_use]
    pub const fn words(slots: usize, weight: u32) -> usize {
        points::words((weight as usize).saturating_mul(POINTS as usize))
            .saturating_mul(2)
            .saturating_add(slots)
    }
}

impl<S: AsRef<[u32]>> Ketama<S> {
    /// A ring for at most `slots` candidates, with all the points that the memory has room for
    /// ([`Ketama::words`]).
    ///
    /// # Errors
    ///
    /// [`MemoryTooSmall`]: for one point for each candidate.
    pub fn new(memory: S, slots: usize) -> Result<Self, MemoryTooSmall> {
        let half = memory.as_ref().len().saturating_sub(slots) / 2;
        Ok(Self {
            halves: Halves::new(memory, half.max(points::words(slots)), slots)?,
            slots,
            total: None,
            made_of: None,
            build: None,
        })
    }
}

impl<S> Ketama<S> {
    /// The same ring in another kind of memory, which `change` must copy or share.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Ketama<T> {
        Ketama {
            halves: self.halves.map(change),
            slots: self.slots,
            total: self.total,
            made_of: self.made_of,
            build: self.build,
        }
    }
}

impl<S: AsRef<[u32]>> Strategy for Ketama<S> {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        affine::pick(self, pool, key, rng)
    }
}

impl<S: AsRef<[u32]>> Ketama<S> {
    #[inline]
    fn find(&self, key: u64) -> Option<(Points<'_>, usize)> {
        self.total?;
        let points = Points::new(self.halves.used());
        let at = points.find(kept(key as u32))?;
        Some((points, at))
    }
}

impl<S: AsRef<[u32]>> Affine for Ketama<S> {
    #[inline]
    fn home<P: Pool + ?Sized>(&self, _: &P, key: u64) -> Option<usize> {
        self.find(key).map(|(points, at)| points.slot(at))
    }

    fn walk<P: Pool + ?Sized>(
        &self,
        _: &P,
        key: u64,
        mut accepts: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let (points, at) = self.find(key)?;
        points.walk(at).find(|&slot| accepts(slot))
    }

    fn total_weight(&self) -> Option<(u32, bool)> {
        self.total
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for Ketama<S> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.made_of == Some(version) {
            return true;
        }
        let (table, scratch) = self.halves.spare();
        let room = points::most(table.len());
        let list = scratch.get_mut(..self.slots).unwrap_or_default();
        let mut points = PointsMut::new(table);
        let build = match &mut self.build {
            Some(build) if build.version == version => build,
            other => other.insert(Build {
                version,
                census: Census::new(),
                stage: Stage::Census,
            }),
        };
        let mut budget = budget;
        while budget > 0 {
            match &mut build.stage {
                Stage::Census => {
                    budget = budget.saturating_sub(1);
                    if build.census.step(pool, list, false) == Progress::Done {
                        build.stage = Stage::Clear(0);
                        if !build.census.complete || build.census.len == 0 {
                            self.total = None;
                            self.made_of = Some(version);
                            self.build = None;
                            return true;
                        }
                    }
                }
                Stage::Clear(at) => {
                    budget = budget.saturating_sub(1);
                    *at = points.clear(*at, 16);
                    if *at >= points.entries() {
                        build.stage = Stage::Fill(0, None);
                    }
                }
                Stage::Fill(at, chain) => {
                    let Some(&entry) = list.get(*at).filter(|_| *at < build.census.len) else {
                        self.total = Some((build.census.total, build.census.even));
                        self.made_of = Some(version);
                        self.build = None;
                        self.halves.flip();
                        return true;
                    };
                    let (slot, weight) = listed(entry);
                    let work = match chain {
                        Some(chain) if chain.left > 0 => chain.step(pool, slot, &mut points),
                        Some(_) => {
                            *chain = None;
                            *at = at.saturating_add(1);
                            1
                        }
                        None => {
                            let name = pool.name(usize::from(slot));
                            *chain = Some(Chain {
                                server: server(name.as_ref()),
                                former: 0,
                                left: count(weight, &build.census, room),
                            });
                            1
                        }
                    };
                    budget = budget.saturating_sub(work);
                }
            }
        }
        false
    }
}

/// How many points a candidate gets where there is room for so many in all.
fn count(weight: u16, census: &Census, room: u32) -> u32 {
    if census.total.saturating_mul(POINTS) <= room {
        return u32::from(weight).saturating_mul(POINTS);
    }
    // Rounded up, each may be one too many.
    let len = u32::try_from(census.len).unwrap_or(u32::MAX);
    Double::from_u32(room.saturating_sub(len))
        .multiply(Double::from_u32(u32::from(weight)))
        .divide(Double::from_u32(census.total))
        .ceil()
        .max(1)
}

impl Chain {
    fn step<P: Pool + ?Sized>(&mut self, pool: &P, slot: u16, points: &mut PointsMut<'_>) -> u32 {
        let mut batch = [0_u32; BATCH];
        let hashes = batch.get_mut(..BATCH.min(self.left as usize)).unwrap_or_default();
        for hash in hashes.iter_mut() {
            let mut crc = self.server;
            crc.write(&self.former.to_le_bytes());
            self.former = crc.finish();
            *hash = kept(self.former);
        }
        self.left = self.left.saturating_sub(hashes.len() as u32);
        points.insert_all(
            hashes,
            |hash| hash,
            slot,
            |_, other| {
                let (name, former) = (pool.name(usize::from(slot)), pool.name(other));
                if name.as_ref() < former.as_ref() {
                    Tie::Replaces
                } else {
                    Tie::Dropped
                }
            },
        )
    }
}

/// The CRC over address, NUL, port. What is not an address with a port is an address.
fn server(name: &[u8]) -> Crc32 {
    let (host, port) = match name.split_at_checked(5) {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case(b"unix:") => (path, &[][..]),
        _ => {
            let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let colon = name.len().saturating_sub(digits).wrapping_sub(1);
            match name.split_at_checked(colon) {
                Some((host, [b':', port @ ..])) => (host, port),
                _ => (name, &[][..]),
            }
        }
    };
    let mut crc = Crc32::new();
    crc.write(host);
    crc.write(&[0]);
    crc.write(port);
    crc
}

#[cfg(test)]
mod tests {
    use super::super::{SlicePool, crc32};
    use super::*;
    use crate::rng::Sfc32;
    use std::string::String;
    use std::vec::Vec;

    const SERVERS: [&[u8]; 6] = [
        b"127.0.0.1:18081",
        b"127.0.0.1:18082",
        b"127.0.0.1:18083",
        b"127.0.0.1:18084",
        b"127.0.0.1:18085",
        b"127.0.0.1:18086",
    ];

    const POOL: SlicePool<'_> = SlicePool {
        candidates: &[0, 1, 2, 3, 4, 5],
        admitted: &[0b11_1111],
        names: &SERVERS,
        own_in_flight: &[],
        total_in_flight: None,
        loads: &[],
        weights: &[],
        version: 0,
    };

    /// Which of the six servers nginx 1.22.1 proxied `/?k=<key>` to, under `hash $arg_k consistent`, for the keys
    /// below: with equal weights; with weights 1, 1, 2, 1, 3, 1; with the fourth server refusing connections.
    const NGINX: [&str; 3] = [
        "0323200145103403500052352535325423314343540513251500331051111445113122212313331251405221201202331241
         5025134453501355340100523555554040121153054220134111111414303250314501420220054524231130201002323035
         4134212113211420215213304532033252215322032515154441430510134033123422411341551523212053112540150454
         5114530221012533430243205033055552131513521510145511550533331111252125012302154125221111402250321050
         3012253411325111011051522042101250315024253523301231520044042225021025303553053130544303532534252533
         1302402500553015042454553022105211352211201305421012141111145311530155001544113410353402153103325004
         1542322234454403002200213024013434413213532542134524513011540233034210023344100134421331550351105012
         0021422155553023333413400522522211244145453525433441522050143352402054213240442300123525110001254001
         102",
        "4323240442103403500054242535324423314343540513251500331042121442114122412213424254405221441202231242
         5024224453441355342400223542554040121453054220144144141442203250224521420224054524421130204042324435
         4134212114411442212213344432233252444442032424154441230510134033142442411441251522212023112544440454
         5112520424042533432244242033455554141523521442145511452532244111254224414344124125221114404454441450
         4012253411324211011051422042101420315024243523301241524044042424021045223554054144544303442544254534
         1202402440553014044454544022144241352244221405424012444414145322230255021544114420323404153103424004
         1442442244454423442240213044013434423213522542444544543211240243032210024344200134441341250351402212
         0421422122542023333414400424542211444145423225434444522052123252402224213440444204144522112001252401
         242",
        "0022200145101401500052452545425424414541540511251500021051111445111122212014501251405221201202021241
         5025124455501555540100524555554040121151054220114111111414204250214501420220054524221120201002220005
         4124212110211420215214504542045252215422022515154441450510114005120422411141551520212050112540150454
         5114520221012514410244205010055552101515521510145511550504221111252125012002154125221111402250021050
         1012252411425111011051522042101250415024251522201201520044042225021025405551054100544004542514252544
         1202402500555015042454550022105211452211201105421012141111145111520155001544114410254402152104525004
         1542022254454404002200212024012454410215522542104524512011540202044210024444100114421111550451105012
         0021422155552022011414400522522211244145454525445441522050144452402054210240442200125525110001254001
         102",
    ];

    fn keys() -> impl Iterator<Item = String> {
        let numbered = (0..600).map(|i| std::format!("key-{i}"));
        let users = (0..200).map(|i| std::format!("user:{i}@example.org"));
        numbered
            .chain(users)
            .chain(["a", "ab", "/index.html"].map(String::from))
    }

    fn ketama(pool: &SlicePool<'_>, weight: u32, budget: u32) -> Ketama<Vec<u32>> {
        let mut ketama = Ketama::new(std::vec![3; Ketama::words(6, weight)], 6).unwrap();
        while !ketama.update(pool, budget) {}
        ketama
    }

    fn choices(ketama: &mut Ketama<Vec<u32>>, pool: &SlicePool<'_>) -> String {
        keys()
            .map(|key| {
                let key = u64::from(crc32(key.as_bytes()));
                ketama
                    .pick(pool, Some(key), &mut Sfc32::new(1))
                    .unwrap()
                    .to_string()
            })
            .collect()
    }

    #[test]
    fn chooses_as_nginx() {
        let [equal, weighted, refused] = NGINX.map(|choices| choices.replace(['\n', ' '], ""));
        for budget in [1, 100_000] {
            let mut ketama = ketama(&POOL, 6, budget);
            assert_eq!(choices(&mut ketama, &POOL), equal);
            let down = SlicePool {
                admitted: &[0b11_0111],
                ..POOL
            };
            assert_eq!(choices(&mut ketama, &down), refused);
        }
        let heavy = SlicePool {
            weights: &[1, 1, 2, 1, 3, 1],
            ..POOL
        };
        assert_eq!(choices(&mut ketama(&heavy, 9, 50), &heavy), weighted);
    }

    #[test]
    fn reads_servers_as_nginx() {
        let crc = |name: &[u8]| server(name).finish();
        let parts = |host: &[u8], port: &[u8]| crc32(&[host, b"\0", port].concat());
        assert_eq!(crc(b"a.example:80"), parts(b"a.example", b"80"));
        assert_eq!(crc(b"[::1]:80"), parts(b"[::1]", b"80"));
        assert_eq!(crc(b"a.example"), parts(b"a.example", b""));
        assert_eq!(crc(b"UNIX:/run/a:1"), parts(b"/run/a:1", b""));
        assert_eq!(crc(b"10"), parts(b"10", b""));
        assert_eq!(crc(b""), parts(b"", b""));
    }

    #[test]
    fn fewer_points_where_memory_is_short() {
        let mut small = Ketama::new([0; Ketama::words(6, 1)], 6).unwrap();
        while !small.update(&POOL, 100) {}
        let mut counts = [0; 6];
        for key in 0..6_000_u32 {
            let key = u64::from(crc32(&key.to_le_bytes()));
            counts[small.pick(&POOL, Some(key), &mut Sfc32::new(1)).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (500..2_000).contains(count)),
            "{counts:?}"
        );
    }
}

//! A sensor: sends readings to whichever server is best and prints which that is and why, a line per call.
#![no_std]
#![no_main]

mod settings;

use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, Timer};
use lb_core::edge::{Choice, Config, ServerState};
use lb_core::load::LoadReport;
use lb_core::member::Filter;
use lb_core::wire::seal::Ascon128;
use lb_core::{Duration as Span, Instant, NodeId};
use lb_embassy::{Answer, CallError, Edge, EdgeHandle, EdgeStorage, now};
use qemu_mps2::host::Random;
use qemu_mps2::lan9118::{self, Lan9118};
use qemu_mps2::print::{print, say};
use qemu_mps2::{executor, host, stack};
use rand_core::RngCore;
use static_cell::ConstStaticCell;

use crate::settings::Settings;

/// 16 servers, sessions with four of them, two calls at a time, 16 bytes of tags, datagrams of 320 bytes. Ascon takes 1.5 KB
/// of flash less than the other cipher; servers speak both.
type Storage = EdgeStorage<NoopRawMutex, 16, 4, 2, 16, 320, Ascon128>;

/// How long a reading may take to be answered.
const WITHIN: Duration = Duration::from_secs(2);

/// Bytes of a reading.
const READING: usize = 40;

#[cortex_m_rt::entry]
fn main() -> ! {
    executor::run(start)
}

/// Not inlined, as are its parts: the stack they need, most of which is for building the edge before it is moved to where
/// it stays, is free again when the tasks run.
#[inline(never)]
fn start(spawner: Spawner) {
    static RESOURCES: ConstStaticCell<StackResources<1>> = ConstStaticCell::new(StackResources::new());
    let (network, runner) = qemu_mps2::init(RESOURCES.take(), Random.next_u32());
    spawner.spawn(run_network(runner).unwrap_or_else(|_| host::fail("spawn")));
    let settings = Settings::read();
    let (calls, period_ms) = (settings.calls, settings.period_ms);
    let edge = new_edge(network, settings);
    let handle = edge.handle();
    spawner.spawn(run_edge(edge).unwrap_or_else(|_| host::fail("spawn")));
    spawner.spawn(run_sensor(handle, calls, period_ms).unwrap_or_else(|_| host::fail("spawn")));
}

#[inline(never)]
fn new_edge(network: Stack<'static>, settings: Settings) -> Edge<'static, Storage, Random> {
    static STORAGE: ConstStaticCell<Storage> = ConstStaticCell::new(Storage::new());
    let config = Config::new(settings.key, Random.next_u32()).timers(settings.timers);
    let Ok(mut edge) = Edge::new(network, STORAGE.take(), config, Random) else {
        host::fail("the configuration");
    };
    for seed in settings.seeds.into_iter().flatten() {
        if edge.add_seed(seed.into()).is_err() {
            host::fail("too many seeds");
        }
    }
    edge
}

#[embassy_executor::task]
async fn run_network(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run_edge(mut edge: Edge<'static, Storage, Random>) -> ! {
    edge.run().await
}

#[embassy_executor::task]
async fn run_sensor(edge: EdgeHandle<'static, Storage>, calls: u32, period_ms: u32) {
    edge.wait_attached().await;
    say!("attached ms=", millis(now()));

    let (mut ok, mut failed, mut deepest) = (0_u32, 0_u32, 0);
    for call in 1..=calls {
        let reading = take_reading(call);
        let mut answer = [0; READING];
        // What it will be, if nothing is heard until then.
        let choice = edge.pick(&Filter::everything()).ok();
        edge.set_load(busy(1));
        let begun = now();
        let result = edge.call("echo", &reading, &mut answer, WITHIN).await;
        let took = now().since(begun);
        edge.set_load(busy(0));

        let result = match result {
            Ok(answered) if answer != reading || answered.len != READING => Err("wrong"),
            Ok(answered) => Ok(answered),
            Err(error) => Err(reason(error)),
        };
        match result {
            Ok(_) => ok += 1,
            Err(_) => failed += 1,
        }
        say_call(call, took, result, choice.as_ref());
        say_silent(edge);
        say!();
        if stack::high_water() > deepest {
            deepest = stack::high_water();
            say!("stack=", deepest);
        }
        Timer::after_millis(u64::from(period_ms)).await;
    }
    say!(
        "done ok=",
        ok,
        " failed=",
        failed,
        " dropped=",
        lan9118::dropped()
    );
    host::succeed()
}

/// This device does one thing at a time.
fn busy(in_flight: u16) -> LoadReport {
    LoadReport {
        in_flight,
        capacity: 1,
        ..LoadReport::default()
    }
}

/// What a sensor would measure; the number tells one from another.
fn take_reading(number: u32) -> [u8; READING] {
    let mut reading = [b'r'; READING];
    if let Some(start) = reading.first_chunk_mut() {
        *start = number.to_be_bytes();
    }
    reading
}

/// Who answered or why nobody did, and what spoke for the server that was best when the call began.
fn say_call(call: u32, took: Span, result: Result<Answer, &str>, choice: Option<&Choice>) {
    print!(
        "call=",
        call,
        " at_ms=",
        millis(now()),
        " us=",
        took.as_micros() as u32
    );
    match result {
        Ok(answer) => print!(" server=", answer.server.get()),
        Err(reason) => print!(" error=", reason),
    }
    if let Some(choice) = choice {
        let best = choice.server.map_or(0, NodeId::get);
        print!(" best=", best, " of=", choice.candidates);
        if let (Some(load), Some(age)) = (&choice.load, choice.age) {
            print!(" in_flight=", load.in_flight, " capacity=", load.capacity);
            print!(" age_us=", age.as_micros() as u32);
        }
    }
}

/// Servers that are not what they should be.
fn say_silent(edge: EdgeHandle<'static, Storage>) {
    for server in edge.servers() {
        if let (Some(id), ServerState::Suspect | ServerState::Failed) = (server.id, server.state) {
            print!(" ", server.state.as_str(), "=", id.get());
        }
    }
}

/// Since the start, right for 9 hours. Dividing all 64 bits would cost 1 KB of flash.
fn millis(at: Instant) -> u32 {
    (at.as_micros() >> 3) as u32 / 125
}

const fn reason(error: CallError) -> &'static str {
    match error {
        CallError::Deadline => "deadline",
        CallError::NoServer(_) => "no-server",
        CallError::Handler { .. } => "handler",
        _ => "refused",
    }
}

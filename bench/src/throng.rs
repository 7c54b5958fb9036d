//! Very many devices in a process of their own, which yields to everything else: elsewhere they would
//! take no processor from the relay's machine, so they take from it only what reaches it through the
//! relay.

use std::{
    env,
    io::{Write, stdin, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use holdfast::{Client, Config, CredentialFiles, State, States};
use holdfast_tests::{courtesy, net::Net};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    runtime::Runtime,
    task::JoinSet,
    time::timeout,
};

use crate::crowd::{credentials, gather};

/// The name under which this program is such a process.
const NAME: &str = "throng";

/// How long a device waits for whom it dials. All of them share what the relay leaves of a processor, and
/// are slower than on any network: who gives up a dial that is answered costs both sides one more.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What all devices of a throng do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Their apps say that there is no network.
    GoOffline,
    /// Their apps say that there is one again.
    GoOnline,
    /// Their apps want another session at once.
    Reconnect,
}

impl Order {
    const ALL: [Self; 3] = [Self::GoOffline, Self::GoOnline, Self::Reconnect];

    fn word(self) -> &'static str {
        match self {
            Self::GoOffline => "offline",
            Self::GoOnline => "online",
            Self::Reconnect => "reconnect",
        }
    }

    fn give(self, client: &Client) {
        match self {
            Self::GoOffline => client.network_lost(),
            Self::GoOnline => client.network_changed(None),
            Self::Reconnect => client.reconnect(),
        }
    }

    fn is_obeyed(self, state: &State) -> bool {
        match self {
            Self::GoOffline => *state == State::Offline,
            Self::GoOnline | Self::Reconnect => matches!(state, State::Attached { .. }),
        }
    }
}

/// The process, as seen from here.
pub(crate) struct Throng {
    _child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Throng {
    /// So many devices, attached.
    pub(crate) async fn gather(net: &Net, devices: usize) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(net.allocator_address().to_string());
        for number in 0..devices {
            let files = credentials(&net.pki, &format!("guest{number}"), "phone");
            if number == 0 {
                command.arg(&files.authority);
                command.arg(files.certificate.parent().expect("a folder"));
            }
        }
        let mut child = command
            .arg(devices.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let reports = BufReader::new(child.stdout.take().expect("its reports")).lines();
        let mut throng = Self {
            orders: child.stdin.take().expect("its orders"),
            _child: child,
            reports,
        };
        throng.report().await;
        throng
    }

    /// Gives an order to all at once, and waits until each has obeyed: how long it took each, in
    /// seconds, in no order.
    pub(crate) async fn order(&mut self, order: Order) -> Vec<f64> {
        let line = format!("{}\n", order.word());
        let sent = self.orders.write_all(line.as_bytes()).await;
        sent.expect("a throng that runs");
        let report = self.report().await;
        let seconds = report.split_whitespace().map(str::parse);
        seconds.collect::<Result<_, _>>().expect("numbers")
    }

    async fn report(&mut self) -> String {
        let line = timeout(PATIENCE, self.reports.next_line()).await;
        let line = line.expect("a report in time").expect("a report");
        line.expect("a throng that runs")
    }
}

/// To be called first thing in `main`: is a throng, if the program was started as one.
pub(crate) fn play() -> Option<ExitCode> {
    let mut words = env::args();
    if Path::new(&words.next()?).file_name()? != NAME {
        return None;
    }
    courtesy::give_way();
    let arguments: Vec<String> = words.collect();
    let [allocator, authority, folder, devices] = &arguments[..] else {
        return Some(ExitCode::FAILURE);
    };
    let (authority, folder) = (PathBuf::from(authority), PathBuf::from(folder));
    let allocator: SocketAddr = allocator.parse().expect("an address");
    let configs = (0..devices.parse().expect("a number")).map(|number: usize| {
        let name = format!("guest{number}-phone");
        let files = CredentialFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            authority: authority.clone(),
            revoked: None,
        };
        Config {
            dial_timeout: DIAL_TIMEOUT,
            ..Config::new(files, vec![allocator])
        }
    });
    let runtime = Runtime::new().expect("a runtime");
    obey(&runtime, &runtime.block_on(gather(configs.collect())));
    Some(ExitCode::SUCCESS)
}

/// Does what it is told, until nobody tells it anything any more.
fn obey(runtime: &Runtime, clients: &[Client]) {
    say("");
    for line in stdin().lines().map_while(Result::ok) {
        let order = Order::ALL.into_iter().find(|order| order.word() == line);
        let order = order.expect("an order");
        let took = runtime.block_on(all(clients, order));
        let words: Vec<String> = took.iter().map(|seconds| format!("{seconds:.4}")).collect();
        say(&words.join(" "));
    }
}

async fn all(clients: &[Client], order: Order) -> Vec<f64> {
    let since = Instant::now();
    let mut obeying = JoinSet::new();
    for client in clients {
        let mut states = client.states();
        states.current();
        order.give(client);
        obeying.spawn(async move {
            until(&mut states, order).await;
            since.elapsed().as_secs_f64()
        });
    }
    obeying.join_all().await
}

/// Whatever the state is when the order is given, it changes before it is obeyed.
async fn until(states: &mut States, order: Order) {
    while let Some(state) = states.changed().await {
        if order.is_obeyed(&state) {
            return;
        }
    }
}

fn say(text: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{text}").expect("somebody who listens");
    out.flush().expect("somebody who listens");
}

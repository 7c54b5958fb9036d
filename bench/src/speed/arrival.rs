//! How very many clients attach: some at a time, and how long each took.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::{Client, Config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{Problem, audience::Progress, latency::Latencies};

/// How many come at a time: enough to keep the relay busy, and few enough that none waits long.
pub(crate) const AT_A_TIME: usize = 64;

/// How long a client may take to attach.
const PATIENCE: Duration = Duration::from_secs(30);

/// Files that this program has open besides clients' sockets.
const OTHER_FILES: u64 = 200;

/// A client, attached.
pub(crate) async fn attach(config: Config) -> Result<Client, Problem> {
    let name = config.credentials.certificate.file_stem();
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let client = match Client::connect(config).await {
        Ok(client) => client,
        Err(source) => return Err(Problem::Client { name, source }),
    };
    match timeout(PATIENCE, client.attached()).await {
        Ok(Ok(_)) => Ok(client),
        _ => Err(Problem::NotAttached {
            name,
            after: PATIENCE,
            state: format!("{:?}", client.state()),
        }),
    }
}

/// A client of each configuration, attached, in the same order; and how long each took.
pub(crate) async fn attach_all(
    configs: Vec<Config>,
    progress: &mut Progress<'_>,
) -> Result<(Vec<Client>, Latencies), Problem> {
    allow_files(configs.len())?;
    let (mut coming, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_A_TIME)));
    let mut places: Vec<Option<Client>> = configs.iter().map(|_| None).collect();
    for (place, config) in configs.into_iter().enumerate() {
        let turns = turns.clone();
        coming.spawn(async move {
            let _turn = turns.acquire().await;
            let begun = Instant::now();
            let client = attach(config).await?;
            Ok::<_, Problem>((place, client, begun.elapsed()))
        });
    }
    let mut latencies = Latencies::new();
    while let Some(come) = coming.join_next().await {
        let (place, client, took) = come??;
        places[place] = Some(client);
        latencies.note(took);
        progress.add(1.0);
    }
    Ok((places.into_iter().flatten().collect(), latencies))
}

/// Waits until all have done their part, or one could not.
pub(crate) async fn all(mut parts: JoinSet<Result<(), Problem>>) -> Result<(), Problem> {
    while let Some(ended) = parts.join_next().await {
        ended??;
    }
    Ok(())
}

/// Closes them all, in order.
pub(crate) async fn close_all(clients: Vec<Client>) {
    let mut leaving = JoinSet::new();
    for client in clients {
        leaving.spawn(async move { client.close().await });
    }
    leaving.join_all().await;
}

/// Each client has a socket: as many as the system lets this program have without asking anybody.
pub(crate) fn allow_files(clients: usize) -> Result<(), Problem> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = clients as u64 + OTHER_FILES;
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let enough = maximum.is_none_or(|maximum| maximum >= needed);
    let raised = enough && setrlimit(Resource::Nofile, raised).is_ok();
    raised.then_some(()).ok_or(Problem::Files {
        needed,
        allowed: maximum.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_than_there_can_be_are_refused_with_a_way_out() {
        assert!(allow_files(1).is_ok());
        if let Err(problem) = allow_files(1 << 40) {
            assert!(problem.to_string().contains("ulimit -n"), "{problem}");
        }
    }
}

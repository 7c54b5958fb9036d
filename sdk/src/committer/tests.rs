use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use holdfast_protocol::{id::Sender, time::Time};
use redb::{StorageBackend, backends::InMemoryBackend};
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;
use crate::{
    core::{Load, Mark, Source},
    storage::{File, Origin},
};

/// A disk that counts its syncs, and fails when it is told to.
#[derive(Debug, Default)]
struct Disk {
    memory: InMemoryBackend,
    meter: Arc<Meter>,
}

#[derive(Debug, Default)]
struct Meter {
    syncs: AtomicUsize,
    full: AtomicBool,
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.meter.syncs.fetch_add(1, Ordering::SeqCst);
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        if self.meter.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.write(offset, data)
    }
}

/// On a disk, with a thread that does not run yet.
fn committer() -> (
    Committer,
    Writer,
    mpsc::UnboundedReceiver<Notice>,
    Arc<Meter>,
) {
    let disk = Disk::default();
    let meter = disk.meter.clone();
    let (jobs, queue) = mpsc::unbounded_channel();
    let (notices, said) = mpsc::unbounded_channel();
    let storage = Storage::File(File::on(disk));
    let worker = Worker::new(storage, &Logbook::default(), notices);
    let (way, writer) = (Way::Thread(jobs), Writer { worker, queue });
    let permits = Arc::new(Semaphore::new(WAITING_BYTES));
    (Committer { way, permits }, writer, said, meter)
}

fn draft(body: &'static str) -> Draft {
    Draft {
        lane: Lane::Message,
        to: "alice/pc".parse().unwrap(),
        options: Options::default(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// Waits until so many jobs wait for the thread.
async fn queued(writer: &Writer, jobs: usize) {
    while writer.queue.len() < jobs {
        tokio::task::yield_now().await;
    }
}

fn send(committer: &Committer) -> JoinHandle<Result<Taken, SendError>> {
    send_this(committer, draft("body"))
}

fn send_this(committer: &Committer, draft: Draft) -> JoinHandle<Result<Taken, SendError>> {
    let committer = committer.clone();
    tokio::spawn(async move { committer.append(draft).await })
}

#[tokio::test]
async fn what_is_sent_at_once_shares_a_sync() {
    let (committer, writer, mut said, meter) = committer();
    let before = meter.syncs.load(Ordering::SeqCst);
    let many: Vec<_> = (0..500).map(|_| send(&committer)).collect();
    queued(&writer, 500).await;
    committer.stop();
    spawn_blocking(|| writer.run()).await.unwrap();
    let mut seqs = Vec::new();
    for one in many {
        seqs.push(one.await.unwrap().unwrap().0);
    }
    assert_eq!(seqs, (1..=500).collect::<Vec<_>>());
    // One commit; redb syncs once or twice for it, and again when the file is shut.
    let syncs = meter.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 10, "{syncs} syncs");
    for seq in 1..=500 {
        let Some(Notice::Appended(appended)) = said.recv().await else {
            panic!("the driver was not told of {seq}");
        };
        assert_eq!(appended.entry.seq, seq);
    }
}

#[tokio::test]
async fn four_megabytes_may_wait_for_the_disk_and_whoever_sends_more_waits() {
    const MIB: usize = 1024 * 1024;
    let (committer, writer, mut said, _) = committer();
    let sending = [2 * MIB, 2 * MIB, 1].map(|size| {
        let body = Bytes::from(vec![7; size]);
        send_this(&committer, Draft { body, ..draft("") })
    });
    queued(&writer, 2).await;
    tokio::task::yield_now().await;
    assert_eq!(writer.queue.len(), 2, "there is no room for the third");
    let running = spawn_blocking(|| writer.run());
    // Until the driver has the first, it takes room.
    assert!(matches!(said.recv().await, Some(Notice::Appended(_))));
    for one in sending {
        one.await.unwrap().unwrap();
    }
    committer.stop();
    running.await.unwrap();
}

#[test]
fn a_commit_does_a_bounded_number_of_jobs_and_leaves_the_rest() {
    let (committer, mut writer, _said, _) = committer();
    (0..1500).for_each(|_| committer.store(Job::Pause));
    let (batch, last) = writer.gather(Task::Do(Job::Pause));
    assert_eq!((batch.len(), last), (1024, false));
    assert_eq!(writer.queue.len(), 1500 - 1023);
}

#[test]
fn what_nobody_waits_for_reaches_the_disk_at_the_end() {
    let (_committer, mut writer, _said, meter) = committer();
    let syncs = || meter.syncs.load(Ordering::SeqCst);
    let before = syncs();
    writer.worker.work(vec![Task::Do(Job::Pause)]).unwrap();
    assert_eq!(syncs(), before, "nobody waits for it");
    writer.worker.sync();
    assert!(syncs() > before);
}

#[tokio::test]
async fn a_read_sees_what_was_written_before_it_and_nothing_untold() {
    let (committer, writer, mut said, _) = committer();
    let load = Load {
        lane: Lane::Message,
        after: 0,
        session: 1,
    };
    let first = send(&committer);
    queued(&writer, 1).await;
    committer.store(Job::Load(load));
    let second = send(&committer);
    queued(&writer, 3).await;
    committer.stop();
    spawn_blocking(|| writer.run()).await.unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let mut told = 0;
    loop {
        match said.recv().await.unwrap() {
            Notice::Appended(_) => told += 1,
            Notice::Loaded(loaded) => {
                assert_eq!(loaded.through, told);
                assert_eq!(loaded.entries.len() as u64, told);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_belongs_to_the_page_under_which_it_can_be_submitted_first() {
    let (committer, writer, mut said, _) = committer();
    let mut logbook = Logbook::default();
    let mut queue = 0;
    let mut sending = Vec::new();
    // Before any session; in one; after a day of it; after its end.
    for step in 0..4 {
        match step {
            1 | 2 => {
                logbook.welcomed(Time::ZERO, 1000);
                committer.store(Job::Begin(logbook.clone()));
            }
            3 => committer.store(Job::Pause),
            _ => {}
        }
        sending.push(send(&committer));
        queue += 1 + usize::from(step > 0);
        queued(&writer, queue).await;
    }
    committer.stop();
    spawn_blocking(|| writer.run()).await.unwrap();
    let mut told = Vec::new();
    while let Some(notice) = said.recv().await {
        match notice {
            Notice::Appended(appended) => told.push(("sent", appended.entry.page)),
            Notice::Begun { page } => told.push(("begun", page)),
            Notice::Ended => break,
            other => panic!("{other:?}"),
        }
    }
    let expected = [
        ("sent", 1),
        ("begun", 1),
        ("sent", 1),
        ("begun", 2),
        ("sent", 2),
        ("sent", 3),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_full_disk_is_told_to_the_sender_and_to_the_driver() {
    let (committer, writer, mut said, meter) = committer();
    meter.full.store(true, Ordering::SeqCst);
    let sending = send(&committer);
    queued(&writer, 1).await;
    spawn_blocking(|| writer.run()).await.unwrap();
    let answer = sending.await.unwrap();
    assert!(matches!(answer, Err(SendError::Storage(_))), "{answer:?}");
    assert!(matches!(said.recv().await, Some(Notice::Failed(_))));
    let late = committer.append(draft("late")).await;
    assert_eq!(late.err(), Some(SendError::Closed));
}

#[test]
fn who_asks_for_something_on_a_disk_leaves_it_to_a_thread() {
    let (notices, _said) = mpsc::unbounded_channel();
    let storage = Storage::File(File::on(Disk::default()));
    let committer = Committer::start(storage, &Logbook::default(), notices).unwrap();
    assert!(matches!(committer.way, Way::Thread(_)));
}

/// Without a disk.
fn here() -> (Committer, mpsc::UnboundedReceiver<Notice>) {
    let origin = Origin {
        owner: "alice/phone".to_owned(),
        outbox: 1,
        inbox: 2,
    };
    let (storage, _, restored) = Storage::open(None, &origin).unwrap();
    let (notices, said) = mpsc::unbounded_channel();
    let committer = Committer::start(storage, &restored.logbook, notices);
    (committer.unwrap(), said)
}

#[tokio::test]
async fn without_a_disk_whoever_asks_does_the_work_at_once() {
    let (committer, mut said) = here();
    let mark = Mark {
        source: Source {
            sender: Sender::Device("alice/pc".parse().unwrap()),
            epoch: 3,
            lane: Lane::Message,
        },
        seq: 9,
        made_ms: 1000,
    };
    let load = Load {
        lane: Lane::Message,
        after: 0,
        session: 1,
    };
    let (seq, _fates) = committer.append(draft("body")).await.unwrap();
    assert_eq!(seq, 1);
    committer.store(Job::Mark(mark.clone()));
    committer.store(Job::Load(load));
    assert!(matches!(said.try_recv(), Ok(Notice::Appended(appended)) if appended.entry.seq == 1));
    assert!(matches!(said.try_recv(), Ok(Notice::Marked(marked)) if marked == mark));
    assert!(matches!(said.try_recv(), Ok(Notice::Loaded(loaded)) if loaded.through == 1));
    committer.stop();
    assert!(matches!(said.try_recv(), Ok(Notice::Ended)));
    let late = committer.append(draft("late")).await;
    assert_eq!(late.err(), Some(SendError::Closed));
    committer.store(Job::Load(load));
    assert!(said.try_recv().is_err(), "nothing follows the end");
}

#[tokio::test]
async fn a_storage_in_memory_ends_with_its_last_handle() {
    let (committer, mut said) = here();
    let other = committer.clone();
    drop(committer);
    assert!(said.try_recv().is_err());
    drop(other);
    assert!(matches!(said.try_recv(), Ok(Notice::Ended)));
}

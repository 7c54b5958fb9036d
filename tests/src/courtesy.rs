//! Programs that are elsewhere in earnest, and here share the processors with what is measured.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// From now on this thread, and every thread that it starts, runs only when no other program wants the
/// processor. The lowest niceness is not enough: Linux lets such a program go on for some milliseconds
/// after another is awake (`SCHED_IDLE` in sched(7), which it does not).
pub fn give_way() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
        .expect("anyone may give way");
}

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Of the scheduling policies of Linux the one for what runs when nobody else wants to
/// ([sched(7)](https://man7.org/linux/man-pages/man7/sched.7.html)).
const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

/// A tenth of what others have, where there are any.
const NICE: i32 = 10;

/// Lets every other thread of the process go before this one, which the kernel then interrupts at once. While others want
/// all of the cores, it has nearly nothing of them.
///
/// A thread without privileges cannot come back from there: it is for those that do nothing else. Where it may not go
/// there, it gives way.
pub(crate) fn step_back() {
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE) {
        tracing::warn!(?error, "what may wait runs at a low priority, and not after everything else");
        give_way();
    }
}

/// Lets other threads have most of the cores, and this one some of them always. It ends its slice of some milliseconds
/// before another one gets to run, if it does not yield. In Linux, a priority is a thread's.
pub(crate) fn give_way() {
    if let Err(error) = setpriority_process(Some(gettid()), NICE) {
        tracing::warn!(%error, "what may wait runs at the priority of requests");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;
    use thread_priority::thread_schedule_policy;

    #[test]
    fn a_thread_steps_back_and_its_process_does_not() {
        let stepped_back = std::thread::spawn(|| {
            step_back();
            thread_schedule_policy().unwrap()
        });
        assert_eq!(stepped_back.join().unwrap(), IDLE);
        assert_ne!(thread_schedule_policy().unwrap(), IDLE);
    }

    #[test]
    fn a_thread_gives_way_and_its_process_does_not() {
        let nice = || getpriority_process(Some(gettid())).unwrap();
        let gave_way = std::thread::spawn(move || {
            give_way();
            nice()
        });
        assert_eq!(gave_way.join().unwrap(), NICE);
        assert_ne!(nice(), NICE);
    }
}

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Of the scheduling policies of Linux the one for what runs when nobody else wants to
/// ([sched(7)](https://man7.org/linux/man-pages/man7/sched.7.html)).
const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

/// Lets every other thread of the process go before this one, which the kernel then interrupts at once. The lowest
/// priority alone would let it end its slice first, some milliseconds.
///
/// A thread without privileges cannot come back from there: it is for those that do nothing else.
pub(crate) fn step_back() {
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE) {
        tracing::warn!(?error, "what may wait runs at the priority of requests");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}

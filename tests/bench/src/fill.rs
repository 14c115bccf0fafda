use std::net::{SocketAddr, TcpListener};

use anyhow::{Result, anyhow};
use clap::Args;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Fills memory whenever nobody else wants a core: what the machine itself makes of such a neighbour.
#[derive(Debug, Args)]
pub(crate) struct Fill {
    /// Where it can be seen to be up
    #[arg(long)]
    listen: SocketAddr,
    /// How many bytes, over and over
    #[arg(long)]
    bytes: usize,
}

impl Fill {
    pub(crate) fn run(self) -> Result<()> {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
            .map_err(|error| anyhow!("no idle priority: {error:?}"))?;
        let mut memory = vec![0_u8; self.bytes];
        let _listener = TcpListener::bind(self.listen)?;
        loop {
            std::hint::black_box(&mut memory).fill(1);
        }
    }
}

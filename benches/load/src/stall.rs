//! Clients that stop in mid-head: what a slow or hostile network does to a server without a front end.

use std::io;

use crate::client::{Stream, connect};
use crate::message;
use crate::plan::Plan;

/// Opens the plan's stalled connections. They stall as long as they are kept.
pub fn connections(plan: &Plan) -> io::Result<Vec<Box<dyn Stream>>> {
    (0..plan.stall)
        .map(|_| {
            let mut stream = connect(&plan.address, plan.timeout)?;
            stream.write_all(message::HALF_A_HEAD)?;
            Ok(stream)
        })
        .collect()
}

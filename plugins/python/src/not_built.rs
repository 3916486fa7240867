//! The functions of the `uwsgi` module that this version does not have yet. They are there by name, because libraries look for names, and say so when they are called.

use imperator_worker::host::Host;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

/// Always there in uWSGI.
const ALWAYS: &str = "\
add_cron add_file_monitor add_ms_timer add_rb_timer add_timer async_sleep \
call embedded_data farm_get_msg farm_msg i_am_the_lord is_locked lock lord_scroll \
mule_get_msg mule_msg \
register_rpc register_signal route rpc rpc_list scrolls set_spooler_frequency set_warning_message signal signal_received \
signal_registered signal_wait unlock wait_fd_read wait_fd_write websocket_handshake websocket_recv websocket_recv_nb websocket_send \
websocket_send_binary";

/// There if one of the options is given: libraries test with hasattr() whether an instance has a spooler.
const GROUPS: [(&[&str], &str); 4] = [
    (&["spooler", "spooler-external"], "send_to_spooler spool spooler_get_task spooler_jobs spooler_pid spooler_pids"),
    (&["queue"], "queue_get queue_last queue_pop queue_pull queue_pull_slot queue_push queue_set queue_slot"),
    (
        &["sharedarea"],
        "sharedarea_dec32 sharedarea_dec64 sharedarea_inc32 sharedarea_inc64 sharedarea_inclong sharedarea_memoryview sharedarea_object \
         sharedarea_read sharedarea_read16 sharedarea_read32 sharedarea_read64 sharedarea_read8 sharedarea_readbyte sharedarea_readlong \
         sharedarea_rlock sharedarea_unlock sharedarea_wlock sharedarea_write sharedarea_write16 sharedarea_write32 sharedarea_write64 \
         sharedarea_write8 sharedarea_writebyte sharedarea_writelong",
    ),
    (
        &["snmp"],
        "snmp_decr_counter32 snmp_decr_counter64 snmp_decr_gauge snmp_incr_counter32 snmp_incr_counter64 snmp_incr_gauge \
         snmp_set_community snmp_set_counter32 snmp_set_counter64 snmp_set_gauge",
    ),
];

pub fn add(module: &Bound<'_, PyModule>, host: &Host) -> PyResult<()> {
    let given = |option: &&str| host.boot.settings.opt.iter().any(|(name, _)| name == option);
    let groups = GROUPS.iter().filter(|(options, _)| options.iter().any(&given)).map(|(_, names)| *names);
    for name in std::iter::once(ALWAYS).chain(groups).flat_map(str::split_whitespace) {
        module.add(name, function(module.py(), name)?)?;
    }
    Ok(())
}

fn function<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyCFunction>> {
    PyCFunction::new_closure(py, None, None, move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        Err(PyNotImplementedError::new_err(format!("uwsgi.{name}() is not built into this version yet")))
    })
}

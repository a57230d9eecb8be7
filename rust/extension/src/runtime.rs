//! The process: worker threads, calls, the queue back to the main thread, work per frame, logging, standard streams.

pub mod calls;
pub mod frame_hook;
pub mod log_bridge;
pub mod main_thread_queue;
pub mod optional_object;
pub mod standard_streams;
pub mod thread_check;
pub mod worker_threads;

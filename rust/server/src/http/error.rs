//! Errors as RFC 9457 replies.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use backend_protocol::{Code, FieldError, Problem, problem};

use super::context;
use crate::database::batch_loader::ReadEnded;

/// A reply that refuses.
#[derive(Debug, Clone)]
pub struct ApiError(pub Box<Problem>);

impl ApiError {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// A refusal for `seconds`.
    pub fn later(code: Code, seconds: u32, detail: impl Into<String>) -> Self {
        let mut problem = Problem::new(code, detail);
        problem.retry_after = Some(seconds);
        problem.into()
    }

    pub fn field(field: &str, rule: &str) -> Self {
        FieldError::new(field, rule).into()
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code, code.as_str().replace('_', " "))
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Problem::from(error).into()
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        let away = matches!(
            error,
            sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Io(_)
                | sqlx::Error::WorkerCrashed
        );
        tracing::error!(%error, "the database refused");
        if away {
            Self::later(Code::Unavailable, 1, "the database does not answer; try again")
        } else {
            Self::new(Code::Internal, "a defect of the backend; the request id finds it in the log")
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "a defect");
        Self::new(Code::Internal, "a defect of the backend; the request id finds it in the log")
    }
}

impl From<ReadEnded> for ApiError {
    fn from(error: ReadEnded) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut problem = self.0;
        problem.request_id = context::request_id();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        metrics::counter!("backend_problems_total", "code" => problem.code.as_str()).increment(1);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        if let Some(seconds) = problem.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

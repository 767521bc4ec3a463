//! Values that are bound to placeholders.

use bytes::Bytes;
use mairust_core::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, PgValueRef};
use sqlx::{Arguments, Decode, Encode, Postgres, Type};
use uuid::Uuid;

/// A value, or NULL, with the type that PostgreSQL is told.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Bool(Option<bool>),
    Bytes(Option<Bytes>),
    Id(Option<Uuid>),
    Int(Option<i64>),
    Json(Option<serde_json::Value>),
    Real(Option<f64>),
    Text(Option<String>),
    Time(Option<Timestamp>),
}

/// What can be bound to a placeholder.
pub(crate) trait Bind: Sized {
    /// The value; `None` is NULL.
    fn bind(value: Option<Self>) -> Value;
}

/// A document, in a column of type `json`.
#[derive(Debug, Clone)]
pub(crate) struct Json(pub(crate) serde_json::Value);

/// A time as the databases keep it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Micros(pub(super) Timestamp);

macro_rules! bind {
    ($($type:ty => $variant:ident $convert:expr;)*) => {
        $(impl Bind for $type {
            fn bind(value: Option<Self>) -> Value {
                Value::$variant(value.map($convert))
            }
        })*
    };
}

bind! {
    bool => Bool |value| value;
    &[u8] => Bytes Bytes::copy_from_slice;
    Bytes => Bytes |value| value;
    Vec<u8> => Bytes Bytes::from;
    &[u8; 32] => Bytes |value| Bytes::copy_from_slice(value);
    &[u8; 16] => Id |value| Uuid::from_bytes(*value);
    Uuid => Id |value| value;
    u32 => Int i64::from;
    i64 => Int |value| value;
    Json => Json |value| value.0;
    f64 => Real |value| value;
    &str => Text str::to_owned;
    String => Text |value| value;
    Timestamp => Time |value| value;
}

impl<T: Bind> Bind for Option<T> {
    fn bind(value: Option<Self>) -> Value {
        T::bind(value.flatten())
    }
}

/// Numbers of the databases are signed; no size or count comes near the difference.
impl Bind for u64 {
    fn bind(value: Option<Self>) -> Value {
        Value::Int(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl Value {
    /// NULL of the same type.
    pub(super) fn null(&self) -> Self {
        match self {
            Self::Bool(_) => Self::Bool(None),
            Self::Bytes(_) => Self::Bytes(None),
            Self::Id(_) => Self::Id(None),
            Self::Int(_) => Self::Int(None),
            Self::Json(_) => Self::Json(None),
            Self::Real(_) => Self::Real(None),
            Self::Text(_) => Self::Text(None),
            Self::Time(_) => Self::Time(None),
        }
    }

    pub(super) fn add_to_postgres(self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Bool(value) => arguments.add(value),
            Self::Bytes(value) => arguments.add(value.as_deref()),
            Self::Id(value) => arguments.add(value),
            Self::Int(value) => arguments.add(value),
            Self::Json(value) => arguments.add(value.map(Document)),
            Self::Real(value) => arguments.add(value),
            // PostgreSQL has no text with NUL in it.
            Self::Text(value) => arguments.add(value.map(|text| text.replace('\0', "\u{fffd}"))),
            Self::Time(value) => arguments.add(value.map(Micros)),
        }
    }
}

/// A document for PostgreSQL's type `json`, which keeps texts as they are; `jsonb`, which the driver
/// would take, refuses `\u0000`.
struct Document(serde_json::Value);

impl Type<Postgres> for Document {
    fn type_info() -> PgTypeInfo {
        const JSON: Oid = Oid(114);
        PgTypeInfo::with_oid(JSON)
    }
}

impl Encode<'_, Postgres> for Document {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        serde_json::to_writer(&mut **buffer, &self.0)?;
        Ok(IsNull::No)
    }
}

/// PostgreSQL counts microseconds from 2000-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Type<Postgres> for Micros {
    fn type_info() -> PgTypeInfo {
        <time::OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Micros {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.as_micros().saturating_sub(POSTGRES_EPOCH), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Micros {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        Ok(Self(Timestamp::from_micros(micros.saturating_add(POSTGRES_EPOCH))))
    }
}

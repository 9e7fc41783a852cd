//! What a table is: typed rows, a key, and indexes that may be unique and may hold only those rows whose end is not set.
//!
//! [`table!`] declares row type and table in one place. Migrations make the tables; `schema` checks at start that what
//! they made is what is declared here, so that no statement fails for it later.

use crate::value::{Kind, Value};
use std::marker::PhantomData;

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in the order of the row's fields.
    pub columns: &'static [ColumnDef],
    /// The names of the columns that are its key.
    pub key: &'static [&'static str],
    /// Its other indexes.
    pub indexes: &'static [&'static Index],
}

/// A column.
#[derive(Debug)]
pub struct ColumnDef {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// It may hold nothing.
    pub nullable: bool,
}

/// An index.
#[derive(Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name within its table; the database's has the table's before it.
    pub name: &'static str,
    /// The columns that it is by.
    pub columns: &'static [&'static str],
    /// No two of its rows have the same in those columns.
    pub unique: bool,
    /// Only rows that have nothing in this column are in it.
    pub live: Option<&'static str>,
}

impl Table {
    /// The position of a column in rows.
    ///
    /// # Panics
    /// When there is none of that name, which declarations are tested for.
    #[must_use]
    pub fn position(&self, column: &str) -> usize {
        let position = self.columns.iter().position(|c| c.name == column);
        position.unwrap_or_else(|| panic!("the table {} has no column {column}", self.name))
    }

    /// A row's key.
    #[must_use]
    pub fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().map(|column| row[self.position(column)].clone()).collect()
    }
}

/// A typed row.
pub trait Row: Sized + Clone + Send + 'static {
    /// Its table.
    const TABLE: &'static Table;
    /// Its columns.
    fn to_values(&self) -> Vec<Value>;
    /// Reads it back. The error is the column that holds something else.
    ///
    /// # Errors
    /// The name of the column, and what is in it.
    fn from_values(values: Vec<Value>) -> Result<Self, (&'static str, Value)>;
}

/// The key of a row.
#[derive(Debug)]
pub struct Key<R> {
    pub(crate) values: Vec<Value>,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Key<R> {
    #[doc(hidden)]
    #[must_use]
    pub fn new(values: Vec<Value>) -> Self {
        Self { values, row: PhantomData }
    }
}

/// Rows by an index: those that have the given values in its first columns, ordered by the others and then by the key.
#[derive(Debug)]
pub struct Select<R> {
    pub(crate) query: Query,
    row: PhantomData<fn() -> R>,
}

/// [`Select`] as engines see it.
#[derive(Clone, Debug)]
pub struct Query {
    /// By which index; none is by the key.
    pub index: Option<&'static Index>,
    /// What the first columns have to be.
    pub prefix: Vec<Value>,
    /// The next column has to be more than this.
    pub after: Option<Value>,
    /// The next column has to be less than this.
    pub before: Option<Value>,
    /// The next column may not be more than this.
    pub up_to: Option<Value>,
    /// At most so many rows.
    pub limit: usize,
    /// The last come first.
    pub newest_first: bool,
}

impl Query {
    /// The columns that the rows are ordered by: first those of the index, then those of the key that it lacks.
    #[must_use]
    pub fn columns(&self, table: &Table) -> Vec<&'static str> {
        let mut columns = self.index.map_or_else(Vec::new, |index| index.columns.to_vec());
        columns.extend(table.key.iter().filter(|k| !columns.contains(k)).copied().collect::<Vec<_>>());
        columns
    }
}

impl Query {
    /// What bounds the next column, as SQL says it.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let bounds = [(">", &self.after), ("<", &self.before), ("<=", &self.up_to)];
        bounds.into_iter().filter_map(|(sign, bound)| Some((sign, bound.as_ref()?)))
    }
}

impl<R: Row> Select<R> {
    #[doc(hidden)]
    #[must_use]
    pub fn new(index: Option<&'static Index>, prefix: Vec<Value>) -> Self {
        let query = Query {
            index,
            prefix,
            after: None,
            before: None,
            up_to: None,
            limit: usize::MAX,
            newest_first: false,
        };
        Self { query, row: PhantomData }
    }

    /// Only those that have more than this in the column after the given ones.
    #[must_use]
    pub fn after(mut self, value: &(impl crate::value::ToValue + ?Sized)) -> Self {
        self.query.after = Some(value.to_value());
        self
    }

    /// Only those that have this in the column after the given ones, which the next bound is about then.
    #[must_use]
    pub fn within(mut self, value: &(impl crate::value::ToValue + ?Sized)) -> Self {
        self.query.prefix.push(value.to_value());
        self
    }

    /// Only those that have less than this in the column after the given ones.
    #[must_use]
    pub fn before(mut self, value: &(impl crate::value::ToValue + ?Sized)) -> Self {
        self.query.before = Some(value.to_value());
        self
    }

    /// Only those that have at most this in the column after the given ones.
    #[must_use]
    pub fn up_to(mut self, value: &(impl crate::value::ToValue + ?Sized)) -> Self {
        self.query.up_to = Some(value.to_value());
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.query.limit = rows;
        self
    }

    /// The last first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.query.newest_first = true;
        self
    }
}

/// Declares a table: the row type with its fields, its key, and a function for each index that selects by it.
///
/// ```text
/// table! {
///     /// A desktop.
///     Desktop in "desktops" {
///         id: DesktopId,
///         pool_id: PoolId,
///         ended_at: Option<i64>,
///     }
///     key (id: DesktopId);
///     index live_by_pool (pool_id: PoolId) then (id) where ended_at is null;
///     unique named (name: str);
/// }
/// ```
macro_rules! table {
    (
        $(#[$meta:meta])*
        $Row:ident in $table:literal {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty, )+
        }
        key ( $($key:ident : $key_type:ty),+ );
        $( $uniqueness:ident $index:ident ( $($by:ident : $by_type:ty),* )
           $(then ( $($then:ident),+ ))? $(where $live:ident is null)? ; )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Row {
            $( $(#[$field_meta])* pub $field: $type, )+
        }

        impl $crate::table::Row for $Row {
            const TABLE: &'static $crate::table::Table = &$crate::table::Table {
                name: $table,
                columns: &[ $( $crate::table::ColumnDef {
                    name: stringify!($field),
                    kind: <$type as $crate::value::Column>::KIND,
                    nullable: <$type as $crate::value::Column>::NULLABLE,
                }, )+ ],
                key: &[ $( stringify!($key), )+ ],
                indexes: &[ $( &$crate::table::Index {
                    name: stringify!($index),
                    columns: &[ $( stringify!($by), )* $( $( stringify!($then), )+ )? ],
                    unique: $crate::table::table!(@unique $uniqueness),
                    live: $crate::table::table!(@live $($live)?),
                }, )* ],
            };

            fn to_values(&self) -> Vec<$crate::value::Value> {
                vec![ $( $crate::value::ToValue::to_value(&self.$field), )+ ]
            }

            fn from_values(values: Vec<$crate::value::Value>) -> Result<Self, (&'static str, $crate::value::Value)> {
                let mut values = values.into_iter();
                $(
                    let value = values.next().unwrap_or($crate::value::Value::Null);
                    let $field = <$type as $crate::value::Column>::from_value(value.clone())
                        .ok_or((stringify!($field), value))?;
                )+
                Ok(Self { $( $field, )+ })
            }
        }

        impl $Row {
            /// The row of this key.
            #[must_use]
            pub fn key($( $key: &$key_type ),+) -> $crate::table::Key<Self> {
                $crate::table::Key::new(vec![ $( $crate::value::ToValue::to_value($key) ),+ ])
            }

            /// All rows, by their key.
            #[must_use]
            pub fn all() -> $crate::table::Select<Self> {
                $crate::table::Select::new(None, Vec::new())
            }

            $(
                #[doc = concat!("Rows of the index `", stringify!($index), "`.")]
                #[must_use]
                pub fn $index($( $by: &$by_type ),*) -> $crate::table::Select<Self> {
                    let table = <Self as $crate::table::Row>::TABLE;
                    let index = table.indexes.iter().find(|i| i.name == stringify!($index)).copied();
                    $crate::table::Select::new(index, vec![ $( $crate::value::ToValue::to_value($by) ),* ])
                }
            )*
        }
    };
    (@unique unique) => { true };
    (@unique index) => { false };
    (@live) => { None };
    (@live $live:ident) => { Some(stringify!($live)) };
}
pub(crate) use table;

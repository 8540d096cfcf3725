//! A schema as logs keep it. What came to schemas later stands behind the rest, so that a schema without it has the bytes
//! that it always had, and logs of before can be read.

use super::schema::Schema;
use super::types::UserType;
use super::views::View;

impl Schema {
    /// The bytes of it that logs keep: user-defined types follow the rest if there are any, then views, then indexes.
    ///
    /// # Errors
    /// What cannot be encoded; nothing of a schema is such.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = postcard::to_stdvec(self)?;
        let indexes = self.indexes();
        let (has_views, has_indexes) = (!self.views.is_empty(), !indexes.is_empty());
        if has_indexes || has_views || !self.types.is_empty() {
            bytes = postcard::to_extend(&self.types.values().collect::<Vec<&UserType>>(), bytes)?;
        }
        if has_indexes || has_views {
            bytes = postcard::to_extend(&self.views.values().collect::<Vec<&View>>(), bytes)?;
        }
        if has_indexes {
            bytes = postcard::to_extend(&indexes, bytes)?;
        }
        Ok(bytes)
    }

    /// What [`Schema::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are no schema.
    pub fn from_bytes(bytes: &[u8]) -> Result<Schema, postcard::Error> {
        let (mut schema, rest): (Schema, &[u8]) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            return Ok(schema);
        }
        let (types, rest): (Vec<UserType>, &[u8]) = postcard::take_from_bytes(rest)?;
        schema.types = types
            .into_iter()
            .map(|t| ((t.keyspace.clone(), t.name.clone()), t))
            .collect();
        if rest.is_empty() {
            return Ok(schema);
        }
        let (views, rest): (Vec<View>, &[u8]) = postcard::take_from_bytes(rest)?;
        schema.views = views.into_iter().map(|v| (v.table, v)).collect();
        if !rest.is_empty() {
            schema.put_indexes(postcard::from_bytes(rest)?);
        }
        Ok(schema)
    }
}

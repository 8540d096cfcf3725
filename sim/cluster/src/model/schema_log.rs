//! A schema as logs keep it. What came to schemas later stands behind the rest, so that a schema without it has the bytes
//! that it always had, and logs of before can be read.

use super::schema::Schema;
use super::types::UserType;
use super::views::View;

impl Schema {
    /// The bytes of it that logs keep: user-defined types follow the rest if there are any, and views the types.
    ///
    /// # Errors
    /// What cannot be encoded; nothing of a schema is such.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let bytes = postcard::to_stdvec(self)?;
        if self.types.is_empty() && self.views.is_empty() {
            return Ok(bytes);
        }
        let types: Vec<&UserType> = self.types.values().collect();
        let bytes = postcard::to_extend(&types, bytes)?;
        if self.views.is_empty() {
            return Ok(bytes);
        }
        let views: Vec<&View> = self.views.values().collect();
        postcard::to_extend(&views, bytes)
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
        if !rest.is_empty() {
            let views: Vec<View> = postcard::from_bytes(rest)?;
            schema.views = views.into_iter().map(|v| (v.table, v)).collect();
        }
        Ok(schema)
    }
}

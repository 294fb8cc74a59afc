package storedrow

import "github.com/twofold-ml/twofold/internal/feature"

// CanRead reports whether a feature that is defined as the wanted type can be read from rows that were stored when it was of the other: the
// same type, or one that holds every value of it (INT32 as INT64 or DOUBLE, FLOAT as DOUBLE).
func CanRead(stored, wanted feature.Type) bool { return convert(stored, wanted) != 0 }

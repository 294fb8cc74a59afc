// Package training makes training sets: entity rows go in, the same rows with the features as they stood at each row's own time come out, in
// order, batch by batch, within a bound of memory.
//
// Entity rows are kept as Arrow records (EntityRows), in memory up to a bound and beyond it in a temporary file, so that whatever columns they have pass
// through untouched. Set.Run joins them, all at once where the memory that was granted (Budget) holds keys, slots and winners' values of all of them; else
// in parts, each a range of rows, over one listing of the files. Only what the join needs of a part is in memory.
//
// It knows neither gRPC nor the contract: the server is one way to reach it.
package training

// Package event is what starts a sync when a file comes: sources of "this object came" (a webhook, a Kafka topic, watched folders) that
// end in one Queue.
//
// Events only make syncs sooner. They are never instead of the syncs of a schedule, which find what no event told of: a notification that S3
// never sent, a webhook that came while nobody listened, a file that was there before its folder was watched.
//
// # The way of an event
//
// A source reads what came and hands it to the Intake as Objects. The Router finds the feature views whose source path the object belongs to; one that belongs to none
// is counted and dropped. The Queue waits until a view's events have come to rest, and gives one Trigger for all of them, however many they are. Who runs
// syncs takes it (Queue.Next), runs the view once, and says how it ended (Queue.Done):
//
//   - An event that comes while its view's run is under way leads to one more run, because the run may have listed the files before.
//   - The events of a run that failed go back into the queue, and are due again after a pause that grows.
//   - A run that was started for another reason, such as its schedule, takes the view's events along (Queue.Take).
//
// # What is kept over a crash
//
// The queue is in memory. The Kafka source commits the offset of an event only after a run that began after it has succeeded, so that a process that takes the
// place of one that crashed is given it again. Webhooks and folders have nothing that could be asked again; the schedule's next sync finds their files.
package event

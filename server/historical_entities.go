package server

import (
	"github.com/twofold-ml/twofold/internal/feature"
)

// readEntityless makes the entity rows from the features.
func (c *historicalCall) readEntityless() error {
	if err := c.noMoreMessages("entityless"); err != nil {
		return err
	}
	r := c.header.GetEntityless()
	return c.rows.AppendEvents(c.ctx, feature.EventTime(r.GetStartMicros()), feature.EventTime(r.GetEndMicros()))
}

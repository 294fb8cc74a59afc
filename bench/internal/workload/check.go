package workload

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// CheckResponse decodes a GetOnlineFeaturesResponse to a request of the layout and compares every name, status and value with
// what was written.
func (d Data) CheckResponse(l Layout, request Request, body []byte) error {
	response := &twofoldv1.GetOnlineFeaturesResponse{}
	if err := proto.Unmarshal(body, response); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	if got, want := len(response.Columns), 1+l.Views*l.Features; got != want {
		return fmt.Errorf("the answer has %d columns where %d were asked for", got, want)
	}
	if err := d.checkKeys(request, response.Columns[0]); err != nil {
		return err
	}
	for v := range l.Views {
		for f := range l.Features {
			if err := d.checkColumn(l, v, f, request, response.Columns[1+v*l.Features+f]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d Data) checkKeys(request Request, column *twofoldv1.Column) error {
	keys := column.GetInt64S().GetValues()
	if column.Name != KeyName || len(keys) != len(request.Entities) {
		return fmt.Errorf("the first column is %q with %d values and should be %q with %d", column.Name, len(keys), KeyName, len(request.Entities))
	}
	for row, entity := range request.Entities {
		if keys[row] != int64(entity) {
			return fmt.Errorf("row %d is entity %d and was asked for as %d", row, keys[row], entity)
		}
	}
	return nil
}

func (d Data) checkColumn(l Layout, v, f int, request Request, column *twofoldv1.Column) error {
	name := l.View(v) + ":" + l.Feature(f)
	values := column.GetDoubles().GetValues()
	if column.Name != name || len(values) != len(request.Entities) || len(column.Statuses) != len(values) {
		return fmt.Errorf("a column is %q with %d values and %d statuses and should be %q with %d",
			column.Name, len(values), len(column.Statuses), name, len(request.Entities))
	}
	for row, entity := range request.Entities {
		value, status := 0.0, twofoldv1.ValueStatus_VALUE_STATUS_NOT_FOUND
		if entity < d.Entities {
			var null bool
			status = twofoldv1.ValueStatus_VALUE_STATUS_PRESENT
			if value, null = d.Value(l, v, f, entity); null {
				status = twofoldv1.ValueStatus_VALUE_STATUS_NULL
			}
		}
		if column.Statuses[row] != status || math.Float64bits(values[row]) != math.Float64bits(value) {
			return fmt.Errorf("%s of entity %d is %v (%v) and was written as %v (%v)", name, entity, values[row], column.Statuses[row], value, status)
		}
	}
	return nil
}

// CheckRaw decodes a BytesArray of stored rows, entity by entity and in each view by view, empty where there is none, and compares
// them with what was written. It reads them with the generated message, not with the server's own codec.
func (d Data) CheckRaw(l Layout, request Request, body []byte) error {
	rows := &twofoldv1.BytesArray{}
	if err := proto.Unmarshal(body, rows); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	if got, want := len(rows.Values), l.Views*len(request.Entities); got != want {
		return fmt.Errorf("the answer has %d stored rows where %d were asked for", got, want)
	}
	for i, entity := range request.Entities {
		for v := range l.Views {
			if err := d.checkRow(l, v, entity, rows.Values[i*l.Views+v]); err != nil {
				return fmt.Errorf("%s of entity %d: %w", l.View(v), entity, err)
			}
		}
	}
	return nil
}

func (d Data) checkRow(l Layout, v, entity int, stored []byte) error {
	if missing := entity >= d.Entities; missing || len(stored) == 0 {
		if !missing || len(stored) != 0 {
			return fmt.Errorf("%d bytes are stored, and it should be missing: %v", len(stored), missing)
		}
		return nil
	}
	row := &twofoldv1.StoredRow{}
	if err := proto.Unmarshal(stored, row); err != nil {
		return fmt.Errorf("decode the stored row: %w", err)
	}
	if len(row.Slots) != l.Features || row.EventTimeMicros != d.EventTimeMicros(l, v, entity) {
		return fmt.Errorf("it has %d slots and event time %d and should have %d and %d", len(row.Slots), row.EventTimeMicros, l.Features, d.EventTimeMicros(l, v, entity))
	}
	for f, slot := range row.Slots {
		value, null := d.Value(l, v, f, entity)
		if isNull := f/8 < len(row.Nulls) && row.Nulls[f/8]>>(f%8)&1 == 1; isNull != null || slot != math.Float64bits(value) {
			return fmt.Errorf("%s is %v (null: %v) and was written as %v (null: %v)", l.Feature(f), math.Float64frombits(slot), isNull, value, null)
		}
	}
	return nil
}

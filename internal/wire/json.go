package wire

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// FormatJSON returns a message as indented JSON, with the names of the contract and a line break at its end. protojson varies its white space on purpose, so it is
// normalized: equal messages give equal text.
func FormatJSON(options protojson.MarshalOptions, m proto.Message) ([]byte, error) {
	options.Multiline = false
	text, err := options.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

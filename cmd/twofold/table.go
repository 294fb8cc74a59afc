package main

import (
	"bytes"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"google.golang.org/protobuf/proto"

	"github.com/twofold-ml/twofold/internal/wire"
)

// textTable is a table for people to read.
type textTable struct{ t table.Writer }

func newTable(head ...string) *textTable {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	style.Options.SeparateColumns = false
	style.Options.DrawBorder = false
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.AppendHeader(row(head))
	return &textTable{t}
}

func (t *textTable) add(cells ...string) { t.t.AppendRow(row(cells)) }

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, cell := range cells {
		r[i] = cell
	}
	return r
}

func (t *textTable) write(w io.Writer) error {
	var out bytes.Buffer
	for line := range bytes.Lines([]byte(t.t.Render())) {
		out.Write(bytes.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	_, err := w.Write(out.Bytes())
	return err
}

// writeJSON writes a message as indented JSON.
func (a *app) writeJSON(m proto.Message) error {
	text, err := formatJSON(m)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

// formatJSON returns a message as indented JSON.
func formatJSON(m proto.Message) ([]byte, error) { return wire.FormatJSON(jsonFormat, m) }

package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/twofold-ml/twofold/client"
)

// progressBar shows how far a training set is, on a terminal; anywhere else it shows nothing.
type progressBar struct{ bar *progressbar.ProgressBar }

// progress returns a bar for a number of rows, −1 where it is not known.
func (a *app) progress(rows int64) progressBar {
	file, ok := asFile(a.err)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return progressBar{}
	}
	return progressBar{progressbar.NewOptions64(rows,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription("sending entity rows"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("rows"),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)}
}

func (p progressBar) update(at client.Progress) {
	if p.bar == nil {
		return
	}
	if at.RowsReceived == 0 {
		p.bar.Describe(fmt.Sprintf("sending entity rows, %d MiB", at.BytesSent>>20))
		return
	}
	p.bar.Describe("joined")
	_ = p.bar.Set64(int64(at.RowsReceived)) //nolint:gosec // a courtesy, and rows are fewer than 2^63
}

func (p progressBar) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // a courtesy
	}
}

package definition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile reads all documents of a file into the definitions.
func (c *checker) readFile(file int) {
	data := c.places.files[file].Data
	if len(data) > MaxFileBytes {
		c.incomplete = true
		c.reportFile(file, Error, fmt.Sprintf("the file is larger than %d MiB", MaxFileBytes>>20), "split it into several files of one folder")
		return
	}
	documents, err := parseYAML(data)
	if err != nil {
		c.incomplete = true
		c.reportSyntax(file, err)
	}
	found := false
	for _, document := range documents {
		d := &decoder{checker: c, file: file}
		found = d.document(document) || found
	}
	if !found && err == nil {
		c.reportFile(file, Warning, "the file defines nothing", "define entities, feature_views or feature_services in it, or remove it")
	}
}

// parseYAML returns the documents before the first syntax error, and the error. The parser's own panics on damaged input, should
// it have any, are errors.
func parseYAML(data []byte) (documents []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser failed: %v", r)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		document := &yaml.Node{}
		if err := d.Decode(document); errors.Is(err, io.EOF) {
			return documents, nil
		} else if err != nil {
			return documents, err
		}
		documents = append(documents, document)
	}
}

var (
	yamlLine   = regexp.MustCompile(`^line (\d+): `)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

// reportSyntax reports a syntax error. The parser tells the line only, and for tabs and anchors not even that.
func (c *checker) reportSyntax(file int, err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	lines := strings.Split(string(c.places.files[file].Data), "\n")
	line = firstBadLine(lines, min(line, len(lines)))
	column := 1 + len(lines[line-1]) - len(strings.TrimLeft(lines[line-1], " "))
	mend := "mend this line or the one above it: indent with spaces, write a space after each colon, close quotes and brackets"
	if m := yamlAnchor.FindStringSubmatch(message); m != nil {
		line, column = find(lines, "*"+m[1])
		mend = fmt.Sprintf("write &%s before the value that it stands for, above this line", m[1])
	} else if tab := indentingTab(lines, line); tab > 0 {
		line, column = tab, strings.Index(lines[tab-1], "\t")+1
		message, mend = "a tab is used for indentation, which YAML does not allow", "indent with spaces"
	}
	c.problems = append(c.problems, c.placed(Problem{Message: "this is not YAML: " + message, Mend: mend}, place{file, line, column}))
}

// firstBadLine returns the line that broke the text: the one after the longest beginning that can be read. It looks near the line that the
// parser told, within a bounded effort.
func firstBadLine(lines []string, told int) int {
	const budgetBytes, window = 16 << 20, 200
	bad, read := told, 0
	for n := max(0, told-3); n < min(len(lines), told+window); n++ {
		text := strings.Join(lines[:n], "\n")
		if read += len(text); read > budgetBytes {
			break
		}
		if _, err := parseYAML([]byte(text)); err == nil {
			bad = n + 1
		}
	}
	for bad < len(lines) && (strings.TrimSpace(lines[bad-1]) == "" || strings.HasPrefix(strings.TrimSpace(lines[bad-1]), "#")) {
		bad++
	}
	return bad
}

// find returns the line and column, counted from 1, of the first occurrence of text.
func find(lines []string, text string) (line, column int) {
	for i, l := range lines {
		if at := strings.Index(l, text); at >= 0 {
			return i + 1, len([]rune(l[:at])) + 1
		}
	}
	return 1, 1
}

// indentingTab returns the line, at most two away from near, that has a tab in its indentation; 0 if there is none.
func indentingTab(lines []string, near int) int {
	for i := max(0, near-3); i < min(len(lines), near+2); i++ {
		indent := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]
		if strings.Contains(indent, "\t") && strings.TrimSpace(lines[i]) != "" {
			return i + 1
		}
	}
	return 0
}

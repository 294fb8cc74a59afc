package redisstore

import (
	"io"
	"strconv"
)

// replies collects the bytes of answers as the server sent them.
type replies struct{ bytes []byte }

// Write implements io.Writer.
func (r *replies) Write(p []byte) (int, error) {
	r.bytes = append(r.bytes, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom, so that values go straight to their place.
func (r *replies) ReadFrom(from io.Reader) (int64, error) {
	limited, ok := from.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{r}, from)
	}
	begin := len(r.bytes)
	for limited.N > 0 {
		// No more room at a time than a large value needs: the length is the server's word.
		piece := int(min(limited.N, 1<<20))
		r.grow(piece)
		end := len(r.bytes)
		n, err := io.ReadFull(limited.R, r.bytes[end:end+piece])
		r.bytes = r.bytes[:end+n]
		limited.N -= int64(n)
		if err != nil {
			return int64(len(r.bytes) - begin), err
		}
	}
	return int64(len(r.bytes) - begin), nil
}

// grow makes room for n bytes more.
func (r *replies) grow(n int) {
	if cap(r.bytes)-len(r.bytes) < n {
		larger := make([]byte, len(r.bytes), 2*cap(r.bytes)+n)
		copy(larger, r.bytes)
		r.bytes = larger
	}
}

// takeArray takes one answer off b, an array of n bulk strings (RESP2 or RESP3), and appends its strings to rows, nil for each that is null.
// It reports false, and appends nothing of use, for every other answer: an error, another length, anything that ends early.
func takeArray(rows [][]byte, b []byte, n int) (_ [][]byte, rest []byte, ok bool) {
	length, b, ok := takeLine(b, '*')
	if !ok || length != n {
		return rows, nil, false
	}
	for range n {
		if len(b) >= 3 && string(b[:3]) == "_\r\n" { // a null in RESP3
			rows, b = append(rows, nil), b[3:]
			continue
		}
		if length, b, ok = takeLine(b, '$'); !ok {
			return rows, nil, false
		}
		if length == -1 {
			rows = append(rows, nil)
			continue
		}
		if length < 0 || len(b)-2 < length || b[length] != '\r' || b[length+1] != '\n' {
			return rows, nil, false
		}
		rows, b = append(rows, b[:length:length]), b[length+2:]
	}
	return rows, b, true
}

// takeLine takes a line with a number off b: the mark, the number, CR and LF.
func takeLine(b []byte, mark byte) (number int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != mark {
		return 0, nil, false
	}
	end := 1
	for end < len(b) && end < 12 && b[end] != '\r' {
		end++
	}
	if end+1 >= len(b) || b[end] != '\r' || b[end+1] != '\n' {
		return 0, nil, false
	}
	for _, digit := range b[1:end] { // by hand: one comes with every value
		if digit < '0' || digit > '9' {
			number, err := strconv.Atoi(string(b[1:end]))
			return number, b[end+2:], err == nil
		}
		number = 10*number + int(digit-'0')
	}
	return number, b[end+2:], end > 1
}

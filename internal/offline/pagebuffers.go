package offline

import "sync"

// maxKeptBuffer is the largest buffer that is kept for the next column. Pages have about 1 MiB.
const maxKeptBuffer = 4 << 20

// pageBuffers is the memory that pages of one column are decompressed into.
type pageBuffers struct{ body, dictionary []byte }

var freePageBuffers = sync.Pool{New: func() any { return new(pageBuffers) }}

func takePageBuffers() *pageBuffers { return freePageBuffers.Get().(*pageBuffers) }

// release gives the memory back.
func (b *pageBuffers) release() {
	if b == nil {
		return
	}
	if cap(b.body) > maxKeptBuffer {
		b.body = nil
	}
	if cap(b.dictionary) > maxKeptBuffer {
		b.dictionary = nil
	}
	freePageBuffers.Put(b)
}

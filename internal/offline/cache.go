package offline

import (
	"container/list"
	"sync"
)

// footerCacheBytes bounds the cached footers, by their size in the files. In memory they take some times as much.
const footerCacheBytes = 32 << 20

// footerCache keeps the footers that were used last, by URL and version.
type footerCache struct {
	mu       sync.Mutex
	maxBytes int
	bytes    int
	order    *list.List // of *cachedFooter, the last used first
	byFile   map[footerKey]*list.Element
}

type footerKey struct {
	at   location
	etag string
}

type cachedFooter struct {
	key    footerKey
	footer *footer
}

func newFooterCache(maxBytes int) *footerCache {
	return &footerCache{maxBytes: maxBytes, order: list.New(), byFile: map[footerKey]*list.Element{}}
}

func (c *footerCache) get(o object) (*footer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byFile[footerKey{o.at, o.etag}]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedFooter).footer, true
}

// put keeps a footer, unless the object has no version to know it by.
func (c *footerCache) put(o object, f *footer) {
	if o.etag == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := footerKey{o.at, o.etag}
	if _, ok := c.byFile[key]; ok {
		return
	}
	c.byFile[key] = c.order.PushFront(&cachedFooter{key, f})
	c.bytes += f.size()
	for c.bytes > c.maxBytes && c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
}

func (c *footerCache) remove(e *list.Element) {
	cached := c.order.Remove(e).(*cachedFooter)
	delete(c.byFile, cached.key)
	c.bytes -= cached.footer.size()
}

func (c *footerCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	clear(c.byFile)
	c.bytes = 0
}

func (f *footer) size() int { return f.meta.Size() }

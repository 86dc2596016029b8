// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package stele.bench;

import java.util.Random;

/**
 * The messages of one producer, as the Go peers get them: random bytes from a
 * pool of 8 MiB, which begin with the producer and a number.
 */
final class Bodies {
    private static final int POOL = 8 << 20;
    private static final int ALL = 32 << 20;

    private final byte[][] slots;
    private final long producer;
    private long next;

    Bodies(int producer, int producers, int size) {
        this.producer = producer;
        slots = new byte[Math.min(POOL, ALL / producers) / size][size];
        Random random = new Random(producer);
        for (byte[] slot : slots) {
            random.nextBytes(slot);
        }
    }

    /** The next message; its bytes change after as many calls as there are slots. */
    byte[] one() {
        byte[] body = slots[(int) (next % slots.length)];
        put(body, 0, producer);
        put(body, 8, next++);
        return body;
    }

    private static void put(byte[] to, int at, long value) {
        for (int i = 0; i < 8; i++) {
            to[at + i] = (byte) (value >> 8 * i);
        }
    }

    /** The number of a message. */
    static long number(byte[] body) {
        long value = 0;
        for (int i = 7; i >= 0; i--) {
            value = value << 8 | body[8 + i] & 0xff;
        }
        return value;
    }
}

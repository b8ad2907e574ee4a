package veca.core

import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/** What is kept of a frame; `key` is what bundles say. */
enum class Resize(val key: String) {
    /** The centre, cut out and resized. */
    CROP("crop"),

    /** The whole frame resized, then its centre, rounded as torchvision rounds. */
    SHORT_SIDE("short-side"),

    /** The whole frame with padding beside it. */
    LETTERBOX("letterbox"),

    /** The whole frame, out of proportion. */
    STRETCH("stretch"),
    ;

    companion object {
        fun of(key: String): Resize =
            requireNotNull(entries.find { it.key == key }) { "no way to resize is called '$key'" }
    }
}

data class Size(val width: Int, val height: Int)

/** A box of pixels; `left` and `top` may lie outside of the picture. */
data class Box(val left: Int, val top: Int, val width: Int, val height: Int)

/**
 * Where a frame goes in the model's input: the box [cut] of the frame is resized to the size of [laid] and laid into
 * the input at its corner. What sticks out is cut off, what stays empty is padding.
 */
data class FrameGeometry(val frame: Size, val input: Size, val cut: Box, val laid: Box) {
    companion object {
        /** @param cropRatio share of the frame's side that `CROP` and `SHORT_SIDE` keep, on the side that limits */
        fun of(frame: Size, input: Size, resize: Resize, cropRatio: Double = 1.0): FrameGeometry {
            val whole = Box(0, 0, frame.width, frame.height)
            val everything = Box(0, 0, input.width, input.height)
            return when (resize) {
                Resize.STRETCH -> FrameGeometry(frame, input, whole, everything)
                Resize.CROP -> FrameGeometry(frame, input, centre(frame, input, cropRatio), everything)
                Resize.LETTERBOX -> FrameGeometry(frame, input, whole, fitted(frame, input))
                Resize.SHORT_SIDE -> FrameGeometry(frame, input, whole, covering(frame, input, cropRatio))
            }
        }

        private fun centre(frame: Size, input: Size, ratio: Double): Box {
            val scale = min(frame.width.toDouble() / input.width, frame.height.toDouble() / input.height) * ratio
            val width = max(1, rounded(input.width * scale))
            val height = max(1, rounded(input.height * scale))
            return Box((frame.width - width).floorDiv(2), (frame.height - height).floorDiv(2), width, height)
        }

        private fun fitted(frame: Size, input: Size): Box {
            val scale = min(input.width.toDouble() / frame.width, input.height.toDouble() / frame.height)
            val width = max(1, rounded(frame.width * scale))
            val height = max(1, rounded(frame.height * scale))
            return Box((input.width - width).floorDiv(2), (input.height - height).floorDiv(2), width, height)
        }

        private fun covering(frame: Size, input: Size, ratio: Double): Box {
            val width: Int
            val height: Int
            if (frame.height.toLong() * input.width >= frame.width.toLong() * input.height) {
                width = rounded(input.width / ratio)
                height = (width.toLong() * frame.height / frame.width.toDouble()).toInt()
            } else {
                height = rounded(input.height / ratio)
                width = (height.toLong() * frame.width / frame.height.toDouble()).toInt()
            }
            return Box(-rounded((width - input.width) / 2.0), -rounded((height - input.height) / 2.0), width, height)
        }

        /** Halves go to the even neighbour. */
        private fun rounded(value: Double): Int = round(value).toInt()
    }
}

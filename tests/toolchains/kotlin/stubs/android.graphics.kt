package android.graphics

import java.nio.Buffer

class Bitmap private constructor() {
    enum class Config { ARGB_8888 }

    fun copyPixelsFromBuffer(src: Buffer) {
        check(src.hasRemaining())
    }

    companion object {
        @JvmStatic
        fun createBitmap(width: Int, height: Int, config: Config): Bitmap {
            check(width > 0 && height > 0 && config == Config.ARGB_8888)
            return Bitmap()
        }
    }
}
